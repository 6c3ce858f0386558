-- The shop's blog. A post is a draft, waits for its time, or is published.

create table blog_posts (
    id            uuid        not null default gen_random_uuid(),
    creator_id    uuid,
    external_id   text,
    slug          text        not null,
    title         text        not null,
    excerpt       text,
    body          text        not null default '',
    tags          text[]      not null default '{}',
    status        text        not null default 'draft',
    scheduled_for timestamptz,
    published_at  timestamptz,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),

    constraint blog_posts_pkey            primary key (id),
    constraint blog_posts_external_id_key unique (external_id),
    constraint blog_posts_slug_key        unique (slug),

    -- set null: a post outlives its author's account.
    constraint blog_posts_creator_id_fkey
        foreign key (creator_id) references creators (id) on delete set null,

    constraint blog_posts_external_id_check check (char_length(external_id) between 1 and 255),
    constraint blog_posts_slug_check        check (char_length(slug) <= 200 and slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    constraint blog_posts_title_check       check (char_length(title) <= 300 and btrim(title) <> ''),
    constraint blog_posts_excerpt_check     check (char_length(excerpt) between 1 and 1000),
    constraint blog_posts_body_check        check (char_length(body) <= 500000),
    constraint blog_posts_tags_check
        check (cardinality(tags) <= 250
               and coalesce(array_ndims(tags), 1) = 1
               and array_position(tags, null) is null
               and char_length(array_to_string(tags, ',')) <= 10000),

    constraint blog_posts_status_check        check (status in ('draft', 'scheduled', 'published')),
    constraint blog_posts_scheduled_for_check check ((status = 'scheduled') = (scheduled_for is not null)),
    constraint blog_posts_published_at_check  check ((status = 'published') = (published_at is not null))
);

create index blog_posts_creator_id_idx on blog_posts (creator_id);

-- The blog's front page, newest first, and the posts whose time has come.
create index blog_posts_published_at_idx on blog_posts (published_at desc) where status = 'published';
create index blog_posts_scheduled_for_idx on blog_posts (scheduled_for) where status = 'scheduled';

create trigger blog_posts_touch_updated_at
    before update on blog_posts
    for each row execute function touch_updated_at();

comment on column blog_posts.creator_id is 'Who wrote it. Null: the shop itself.';
