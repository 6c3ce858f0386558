-- What the template shop promises, checked inside a tenant. Fails with an error; nothing of it stays.
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f tests/cgk/shop.sql
--
-- The tenant acme must exist: cgk tenant:create acme

begin;
select public.cgk_enter('acme');

do $$
declare
    product  uuid;
    customer uuid;
    the_order uuid;
begin
    insert into products (handle, title, currency, price_minor) values ('mug', 'Mug', 'EUR', 1200) returning id into product;
    insert into customers (email) values ('ada@example.com') returning id into customer;
    insert into orders (order_number, customer_id, currency, total_minor) values ('#1', customer, 'EUR', 1200)
    returning id into the_order;
    insert into order_items (order_id, line_no, product_id, title, quantity, unit_price_minor)
    values (the_order, 1, product, 'Mug', 1, 1200);

    begin
        insert into orders (order_number, currency, total_minor) values ('#1', 'EUR', 1);
        raise exception 'an order number was accepted twice';
    exception when unique_violation then null;
    end;
    begin
        update orders set refunded_minor = 1201 where id = the_order;
        raise exception 'more was refunded than was paid';
    exception when check_violation then null;
    end;
    begin
        insert into reviews (product_id, author_name, rating) values (product, 'Ada', 6);
        raise exception 'a rating of 6 was accepted';
    exception when check_violation then null;
    end;

    -- A line keeps what was sold when the product goes, and goes with its order.
    delete from products where id = product;
    assert exists (select from order_items where order_id = the_order and product_id is null and title = 'Mug');
    delete from orders where id = the_order;
    assert not exists (select from order_items where order_id = the_order);
end
$$;

select public.cgk_check('acme');
rollback;
