-- Buyers, and the foreign key that 001_orders.sql could not have yet.

create table customers (
    id                uuid        not null default gen_random_uuid(),
    external_id       text,
    email             text,
    phone             text,
    first_name        text,
    last_name         text,
    status            text        not null default 'active',
    accepts_marketing boolean     not null default false,
    default_address   jsonb,
    tags              text[]      not null default '{}',
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),

    constraint customers_pkey            primary key (id),
    constraint customers_external_id_key unique (external_id),

    constraint customers_email_check
        check (char_length(email) <= 320 and email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    constraint customers_external_id_check     check (char_length(external_id) between 1 and 255),
    constraint customers_phone_check           check (phone ~ '^\+[1-9][0-9]{5,14}$'),
    constraint customers_first_name_check      check (char_length(first_name) <= 200),
    constraint customers_last_name_check       check (char_length(last_name) <= 200),
    constraint customers_default_address_check check (jsonb_typeof(default_address) = 'object'),
    constraint customers_tags_check
        check (cardinality(tags) <= 250
               and coalesce(array_ndims(tags), 1) = 1
               and array_position(tags, null) is null
               and char_length(array_to_string(tags, ',')) <= 10000),

    constraint customers_status_check check (status in ('active', 'disabled', 'erased')),
    constraint customers_erased_check
        check (status <> 'erased'
               or (email is null and phone is null and first_name is null and last_name is null
                   and default_address is null and not accepts_marketing and cardinality(tags) = 0))
);

create unique index customers_lower_email_key on customers (lower(email));

create trigger customers_touch_updated_at
    before update on customers
    for each row execute function touch_updated_at();

comment on column customers.phone  is 'E.164: + and digits.';
comment on column customers.status is 'erased: the person asked to be forgotten. The row stays, blank, for its orders.';

-- restrict: sales stay attached. A customer with orders is blanked (status erased), not deleted.
alter table orders add constraint orders_customer_id_fkey
    foreign key (customer_id) references customers (id) on delete restrict;

create index orders_customer_id_placed_at_idx on orders (customer_id, placed_at desc);
