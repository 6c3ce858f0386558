-- Customers' reviews of products. A review is read by the shop's staff before it is published.

create table reviews (
    id                uuid        not null default gen_random_uuid(),
    product_id        uuid        not null,
    customer_id       uuid,
    external_id       text,
    author_name       text        not null,
    rating            smallint    not null,
    title             text,
    body              text        not null default '',
    verified_purchase boolean     not null default false,
    status            text        not null default 'pending',
    published_at      timestamptz,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),

    constraint reviews_pkey                       primary key (id),
    constraint reviews_external_id_key            unique (external_id),
    -- Also the index behind product_id.
    constraint reviews_product_id_customer_id_key unique (product_id, customer_id),

    -- restrict: a product with reviews is archived, so that a bad catalogue sync cannot delete what customers wrote.
    constraint reviews_product_id_fkey
        foreign key (product_id) references products (id) on delete restrict,
    -- set null: the review stays under author_name.
    constraint reviews_customer_id_fkey
        foreign key (customer_id) references customers (id) on delete set null,

    constraint reviews_external_id_check check (char_length(external_id) between 1 and 255),
    constraint reviews_author_name_check check (char_length(author_name) <= 200 and btrim(author_name) <> ''),
    constraint reviews_rating_check      check (rating between 1 and 5),
    constraint reviews_title_check       check (char_length(title) between 1 and 300),
    constraint reviews_body_check        check (char_length(body) <= 10000),

    constraint reviews_status_check       check (status in ('pending', 'published', 'rejected')),
    constraint reviews_published_at_check check ((status = 'published') = (published_at is not null))
);

create index reviews_customer_id_idx on reviews (customer_id);

-- What a product page shows, newest first, and what the staff must still read, oldest first.
create index reviews_published_idx on reviews (product_id, published_at desc) where status = 'published';
create index reviews_pending_idx on reviews (created_at) where status = 'pending';

create trigger reviews_touch_updated_at
    before update on reviews
    for each row execute function touch_updated_at();

comment on constraint reviews_product_id_customer_id_key on reviews
    is 'One review per customer and product. Reviews without a customer are not limited.';
