-- A product, a customer, an order and a review. Nothing of it stays.
--
--     psql "$DATABASE_URL" -P pager=off -f examples/cgk/shop.sql
--
-- The tenant acme must exist: cgk tenant:create acme

begin;
select public.cgk_enter('acme');

insert into products (handle, title, currency, price_minor, status, published_at)
values ('mug', 'Mug', 'EUR', 1200, 'active', now());
insert into customers (email, first_name) values ('ada@example.com', 'Ada');

with new_order as (
    insert into orders (order_number, customer_id, email, currency, subtotal_minor, total_minor)
    select '#1001', id, email, 'EUR', 2400, 2400 from customers where email = 'ada@example.com'
    returning id)
insert into order_items (order_id, line_no, product_id, title, quantity, unit_price_minor)
select new_order.id, 1, p.id, p.title, 2, p.price_minor from new_order, products p where p.handle = 'mug';

insert into reviews (product_id, customer_id, author_name, rating, verified_purchase)
select p.id, c.id, c.first_name, 5, true from products p, customers c where p.handle = 'mug';

select o.order_number, i.title, i.quantity, o.total_minor, o.currency
  from orders o join order_items i on i.order_id = o.id
 order by o.placed_at desc;

select public.cgk_check('acme');
rollback;
