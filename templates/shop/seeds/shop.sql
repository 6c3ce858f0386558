-- Rows for a first look. `cgk tenant:seed acme` inserts them into the tenant acme, once.

insert into products (handle, title, currency, price_minor, status, published_at)
values ('notebook', 'Notebook', 'EUR', 1200, 'active', now()),
       ('poster', 'Poster', 'EUR', 1900, 'active', now());

insert into customers (email, first_name) values ('grace@example.com', 'Grace');

with new_order as (
    insert into orders (order_number, customer_id, email, currency, subtotal_minor, total_minor)
    select '#0001', id, email, 'EUR', 2400, 2400 from customers where email = 'grace@example.com'
    returning id)
insert into order_items (order_id, line_no, product_id, title, quantity, unit_price_minor)
select new_order.id, 1, p.id, p.title, 2, p.price_minor from new_order, products p where p.handle = 'notebook';
