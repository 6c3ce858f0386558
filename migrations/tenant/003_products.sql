-- The catalogue, synchronised from Shopify, and the foreign key that 001_orders.sql could not have yet.

create table products (
    id                     uuid        not null default gen_random_uuid(),
    external_id            text,
    handle                 text        not null,
    title                  text        not null,
    description            text        not null default '',
    vendor                 text,
    product_type           text,
    sku                    text,
    status                 text        not null default 'draft',
    currency               text        not null,
    price_minor            bigint      not null,
    compare_at_price_minor bigint,
    inventory_quantity     integer     not null default 0,
    variants               jsonb       not null default '[]',
    tags                   text[]      not null default '{}',
    published_at           timestamptz,
    source_updated_at      timestamptz,
    synced_at              timestamptz,
    created_at             timestamptz not null default now(),
    updated_at             timestamptz not null default now(),

    constraint products_pkey            primary key (id),
    constraint products_external_id_key unique (external_id),
    constraint products_handle_key      unique (handle),

    constraint products_handle_check
        check (char_length(handle) between 1 and 255 and handle = lower(handle) and handle !~ '[[:space:]/]'),
    constraint products_external_id_check  check (char_length(external_id) between 1 and 255),
    constraint products_title_check        check (char_length(title) <= 500 and btrim(title) <> ''),
    constraint products_description_check  check (char_length(description) <= 200000),
    constraint products_vendor_check       check (char_length(vendor) between 1 and 255),
    constraint products_product_type_check check (char_length(product_type) between 1 and 255),
    constraint products_sku_check          check (char_length(sku) between 1 and 255),
    constraint products_variants_check     check (jsonb_typeof(variants) = 'array'),
    constraint products_tags_check
        check (cardinality(tags) <= 250
               and coalesce(array_ndims(tags), 1) = 1
               and array_position(tags, null) is null
               and char_length(array_to_string(tags, ',')) <= 10000),

    constraint products_currency_check               check (currency ~ '^[A-Z]{3}$'),
    constraint products_price_minor_check            check (price_minor >= 0),
    constraint products_compare_at_price_minor_check check (compare_at_price_minor >= price_minor),

    -- A draft was never on sale; an archived product keeps the date it first was.
    constraint products_status_check       check (status in ('draft', 'active', 'archived')),
    constraint products_published_at_check
        check (status = 'archived' or (status = 'active') = (published_at is not null)),
    constraint products_synced_at_check
        check (external_id is null or synced_at is not null)
);

create index products_sku_idx on products (sku) where sku is not null;
create index products_active_published_at_idx on products (published_at desc) where status = 'active';

create trigger products_touch_updated_at
    before update on products
    for each row execute function touch_updated_at();

comment on column products.external_id        is 'Shopify''s id. Null: made here.';
comment on column products.variants           is 'As Shopify sends them. sku and price are those of the first.';
comment on column products.inventory_quantity is 'Negative when oversold.';
comment on column products.source_updated_at  is 'Shopify''s own updated_at. An older message is late and is dropped.';

-- set null: the line keeps its copies of title, sku and price.
alter table order_items add constraint order_items_product_id_fkey
    foreign key (product_id) references products (id) on delete set null;

create index order_items_product_id_idx on order_items (product_id);
