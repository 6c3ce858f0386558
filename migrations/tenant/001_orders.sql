-- Orders and their lines. The foreign keys to customers and products come in 002 and 003, which create those tables.
-- The trigger function of the whole tenant set is defined here, before its first use.

-- Every tenant has its own copy instead of sharing the one in public. A trigger bound to the shared function would work
-- too, but then a dump of this schema alone could not be restored elsewhere, these files would only run beside our
-- public set, and replacing one function would touch every tenant at once. Sharing would save one catalogue row per
-- tenant and no memory: PL/pgSQL compiles a trigger function once per trigger, shared or not. It has another name than
-- the public one, so that a missing definition is an error and never falls through to it.
-- current_timestamp is syntax, not a name, so no search_path can redirect it. It is the time the transaction began.
create function touch_updated_at() returns trigger
    language plpgsql
as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;

-- Amounts are in minor units (cents) of the order's currency. They come from the shop, with its rounding, duties and
-- tips: no check demands that they add up, because an order that cannot be stored is worse than one off by a cent.
create table orders (
    id                 uuid        not null default gen_random_uuid(),
    external_id        text,
    order_number       text        not null,
    customer_id        uuid,
    email              text,
    status             text        not null default 'open',
    payment_status     text        not null default 'pending',
    fulfillment_status text        not null default 'unfulfilled',
    currency           text        not null,
    subtotal_minor     bigint      not null default 0,
    discount_minor     bigint      not null default 0,
    shipping_minor     bigint      not null default 0,
    tax_minor          bigint      not null default 0,
    total_minor        bigint      not null,
    refunded_minor     bigint      not null default 0,
    shipping_address   jsonb,
    placed_at          timestamptz not null default now(),
    canceled_at        timestamptz,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),

    constraint orders_pkey             primary key (id),
    constraint orders_external_id_key  unique (external_id),
    constraint orders_order_number_key unique (order_number),

    constraint orders_external_id_check  check (char_length(external_id) between 1 and 255),
    constraint orders_order_number_check check (char_length(order_number) between 1 and 64),
    constraint orders_email_check
        check (char_length(email) <= 320 and email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),

    constraint orders_status_check
        check (status in ('open', 'completed', 'canceled')),
    constraint orders_payment_status_check
        check (payment_status in ('pending', 'authorized', 'paid', 'partially_refunded', 'refunded', 'voided')),
    constraint orders_fulfillment_status_check
        check (fulfillment_status in ('unfulfilled', 'partial', 'fulfilled')),
    constraint orders_canceled_at_check
        check ((status = 'canceled') = (canceled_at is not null)),

    constraint orders_currency_check check (currency ~ '^[A-Z]{3}$'),
    constraint orders_amounts_check
        check (subtotal_minor >= 0 and discount_minor >= 0 and shipping_minor >= 0 and tax_minor >= 0
               and total_minor >= 0),
    constraint orders_refunded_minor_check   check (refunded_minor between 0 and total_minor),
    constraint orders_shipping_address_check check (jsonb_typeof(shipping_address) = 'object')
);

create index orders_placed_at_idx on orders (placed_at desc);
create index orders_open_placed_at_idx on orders (placed_at) where status = 'open';

create trigger orders_touch_updated_at
    before update on orders
    for each row execute function touch_updated_at();

comment on column orders.external_id is 'The shop platform''s id. Null: made here.';
comment on column orders.customer_id is 'Null: a guest.';

-- Title, sku and price are copies: they say what was sold, whatever becomes of the product.
create table order_items (
    id               uuid        not null default gen_random_uuid(),
    order_id         uuid        not null,
    line_no          integer     not null,
    external_id      text,
    product_id       uuid,
    title            text        not null,
    sku              text,
    quantity         integer     not null,
    unit_price_minor bigint      not null,
    discount_minor   bigint      not null default 0,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),

    constraint order_items_pkey                 primary key (id),
    constraint order_items_external_id_key      unique (external_id),
    -- Also the index behind order_id.
    constraint order_items_order_id_line_no_key unique (order_id, line_no),

    constraint order_items_order_id_fkey
        foreign key (order_id) references orders (id) on delete cascade,

    constraint order_items_line_no_check        check (line_no > 0),
    constraint order_items_external_id_check    check (char_length(external_id) between 1 and 255),
    constraint order_items_title_check          check (char_length(title) between 1 and 500),
    constraint order_items_sku_check            check (char_length(sku) between 1 and 255),
    constraint order_items_quantity_check       check (quantity > 0),
    -- Implies unit_price_minor >= 0.
    constraint order_items_discount_minor_check check (discount_minor between 0 and unit_price_minor * quantity)
);

create trigger order_items_touch_updated_at
    before update on order_items
    for each row execute function touch_updated_at();

comment on column order_items.unit_price_minor is 'In the currency of the order.';
