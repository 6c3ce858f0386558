-- What customers can buy: plans, and what each of them includes. cgk::platform::Plans writes and reads these tables. They belong to
-- no organization; the subscriptions of organizations are in 020.

-- consumed: what is used is gone, until more is granted (API calls, runs, credits).
-- allocated: what is used is given back when it is no longer needed (seats, projects).
create type quota_usage_type as enum ('consumed', 'allocated');

-- The kinds of quota. A product adds its own.
create table quota_kinds (
    name       text             not null,
    usage_type quota_usage_type not null,
    created_at timestamptz      not null default now(),

    constraint quota_kinds_pkey       primary key (name),
    constraint quota_kinds_name_check check (name ~ '^[a-z][a-z0-9_]{0,47}$')
);

create table plans (
    id          uuid        not null default gen_random_uuid(),
    key         text        not null,
    name        text        not null,
    archived_at timestamptz,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),

    constraint plans_pkey     primary key (id),
    constraint plans_key_key  unique (key),

    constraint plans_key_check  check (key ~ '^[a-z][a-z0-9_]{0,47}$'),
    constraint plans_name_check check (char_length(name) <= 200 and btrim(name) <> '')
);

create trigger plans_set_updated_at
    before update on plans
    for each row execute function set_updated_at();

-- period: granted anew in each period of the subscription. once: granted once to an organization.
create type plan_renewal as enum ('period', 'once');

create table plan_entitlements (
    plan_id uuid         not null,
    kind    text         not null,
    renewal plan_renewal not null default 'period',
    amount  bigint,

    constraint plan_entitlements_pkey         primary key (plan_id, kind, renewal),
    constraint plan_entitlements_plan_id_fkey foreign key (plan_id) references plans (id) on delete cascade,
    constraint plan_entitlements_kind_fkey    foreign key (kind) references quota_kinds (name) on delete restrict,

    -- The upper bound keeps sums of many grants far from the end of bigint.
    constraint plan_entitlements_amount_check check (amount between 0 and 1000000000000000)
);

create index plan_entitlements_kind_idx on plan_entitlements (kind);

insert into quota_kinds (name, usage_type) values ('seats', 'allocated'), ('runs', 'consumed'), ('credits', 'consumed');

insert into plans (key, name)
values ('hobby', 'Hobby'), ('team', 'Team'), ('scale', 'Scale'), ('enterprise', 'Enterprise');

insert into plan_entitlements (plan_id, kind, renewal, amount)
select p.id, e.kind, e.renewal::plan_renewal, e.amount
  from (values ('hobby',      'seats',   'period', 3),
               ('hobby',      'runs',    'period', 1000),
               ('hobby',      'credits', 'once',   100),
               ('team',       'seats',   'period', 10),
               ('team',       'runs',    'period', 10000),
               ('team',       'credits', 'period', 1000),
               ('scale',      'seats',   'period', 50),
               ('scale',      'runs',    'period', 100000),
               ('scale',      'credits', 'period', 10000),
               ('enterprise', 'seats',   'period', null),
               ('enterprise', 'runs',    'period', null),
               ('enterprise', 'credits', 'period', null)) as e (plan, kind, renewal, amount)
  join plans p on p.key = e.plan;

select cgk_protect_shared_table('quota_kinds', null);
select cgk_protect_shared_table('plans', null);
select cgk_protect_shared_table('plan_entitlements', null);

comment on table  plans                      is 'What can be bought. The key is what code and the command line say.';
comment on column plans.archived_at          is 'When it was withdrawn from sale. Subscriptions to it go on.';
comment on table  plan_entitlements          is 'What a plan includes.';
comment on column plan_entitlements.amount   is 'Null: unlimited.';
comment on table  quota_kinds                is 'The kinds of quota: seats, runs, credits, and those of the product.';
comment on column quota_kinds.usage_type     is 'Whether use is consumed, or allocated and given back.';
