-- What organizations may use, and what they have used: grants, and the consumption of them. cgk::platform::Quota and
-- cgk::platform::Subscriptions write and read these tables, by the functions at the end of this file.

-- In the order in which they are spent where nothing else decides: a subscription's are revoked with the next change of the plan,
-- what was bought is kept longest.
create type grant_source as enum ('subscription', 'promocode', 'purchase');

-- One row for each kind of quota that an organization was ever granted or has used. Whoever changes what is left of a kind locks
-- this row first, so that two who consume at the same time see each other.
create table quota_usage (
    organization_id uuid   not null,
    kind            text   not null,
    -- Of a kind that is allocated: how much is in use.
    allocated       bigint not null default 0,

    constraint quota_usage_pkey                 primary key (organization_id, kind),
    constraint quota_usage_organization_id_fkey foreign key (organization_id)
        references organizations (id) on delete cascade,
    constraint quota_usage_kind_fkey            foreign key (kind) references quota_kinds (name) on delete restrict,
    constraint quota_usage_allocated_check      check (allocated >= 0)
);

create index quota_usage_kind_idx on quota_usage (kind);

create table grants (
    id              uuid         not null default gen_random_uuid(),
    organization_id uuid         not null,
    kind            text         not null,
    source          grant_source not null,
    subscription_id uuid,
    renewal         plan_renewal not null default 'once',
    amount          bigint,
    -- What was spent of earlier grants of the same period before a change of the plan replaced them by this one.
    carried         bigint       not null default 0,
    spent           bigint       not null default 0,
    balance         bigint generated always as
        (case when amount is null then null when amount > carried then amount - carried - spent else -spent end) stored,
    starts_at       timestamptz  not null default now(),
    expires_at      timestamptz,
    revoked_at      timestamptz,
    reference       text,
    created_at      timestamptz  not null default now(),
    updated_at      timestamptz  not null default now(),

    constraint grants_pkey                   primary key (id),
    constraint grants_organization_id_fkey   foreign key (organization_id, kind)
        references quota_usage (organization_id, kind) on delete cascade,
    constraint grants_subscription_id_fkey   foreign key (organization_id, subscription_id)
        references subscriptions (organization_id, id) on delete cascade,
    -- A purchase or promocode is granted once, however often it is reported.
    constraint grants_organization_id_source_reference_kind_key unique (organization_id, source, reference, kind),

    constraint grants_source_check     check ((source = 'subscription') = (subscription_id is not null)),
    constraint grants_amount_check     check (amount between 0 and 1000000000000000),
    constraint grants_carried_check    check (carried >= 0),
    constraint grants_spent_check      check (spent >= 0),
    constraint grants_balance_check    check (balance >= 0),
    constraint grants_expires_at_check check (expires_at >= starts_at),
    constraint grants_reference_check  check (char_length(reference) between 1 and 255)
) with (fillfactor = 80);

-- What can be spent, soonest expiry first; also the index behind the foreign key to quota_usage.
create index grants_spending_idx on grants (organization_id, kind, coalesce(expires_at, 'infinity'));
create index grants_subscription_id_idx on grants (organization_id, subscription_id);
-- A period of a subscription is granted once.
create unique index grants_subscription_id_period_key on grants (subscription_id, kind, renewal, starts_at)
    where subscription_id is not null and revoked_at is null;

-- Not on what is spent: that is the hot path, and quota_consumptions says when.
create trigger grants_set_updated_at
    before update of amount, expires_at, revoked_at on grants
    for each row execute function set_updated_at();

create table quota_consumptions (
    organization_id uuid        not null,
    idempotency_key text        not null,
    kind            text        not null,
    amount          bigint      not null,
    -- Which grants it was taken from, and how much of each.
    grant_ids       uuid[]      not null default '{}',
    grant_amounts   bigint[]    not null default '{}',
    released_at     timestamptz,
    created_at      timestamptz not null default now(),

    constraint quota_consumptions_pkey                 primary key (organization_id, idempotency_key),
    constraint quota_consumptions_organization_id_fkey foreign key (organization_id, kind)
        references quota_usage (organization_id, kind) on delete cascade,

    constraint quota_consumptions_idempotency_key_check check (char_length(idempotency_key) between 1 and 255),
    constraint quota_consumptions_amount_check          check (amount between 1 and 1000000000000000),
    constraint quota_consumptions_grants_check          check (cardinality(grant_ids) = cardinality(grant_amounts))
);

-- What was used of a kind, newest last; also the index behind the foreign key.
create index quota_consumptions_kind_created_at_idx on quota_consumptions (organization_id, kind, created_at);
-- For the retention. Rows are appended in this order, so a small index does.
create index quota_consumptions_created_at_idx on quota_consumptions using brin (created_at);

-- Takes wanted of a kind from what an organization has left, under a key that counts once. The outcomes:
--
--   consumed   it was taken
--   repeated   the key was counted before, for the same; nothing was taken again
--   exceeded   less than wanted is left; nothing was taken
--   mismatch   the key was counted before, for something else
--   released   the key was counted before, and released
--   unknown_organization, unknown_kind
--
-- remaining is what is left afterwards, null for unlimited. resets_at is when there will be more by itself, if it is known.
create function cgk_quota_consume(organization uuid, wanted_kind text, wanted bigint, key text,
                                  out outcome text, out remaining bigint, out resets_at timestamptz)
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    usage     record;
    earlier   record;
    available record;
    moment    timestamptz;
    missing   bigint := wanted;
    total     bigint := 0;
    unlimited boolean := false;
    part      bigint;
    ids       uuid[] := '{}';
    parts     bigint[] := '{}';
begin
    if wanted is null or wanted not between 1 and 1000000000000000 then
        raise check_violation using message = 'an amount between 1 and 10^15 can be consumed',
            constraint = 'quota_consumptions_amount_check';
    end if;
    -- Whoever waits here sees in the next statements what the other one has committed.
    select u.allocated, k.usage_type into usage
      from public.quota_usage u join public.quota_kinds k on k.name = u.kind
     where u.organization_id = organization and u.kind = wanted_kind for no key update of u;
    moment := clock_timestamp();

    for available in
        select g.id, g.amount, g.balance from public.grants g
         where g.organization_id = organization and g.kind = wanted_kind and g.revoked_at is null
           and coalesce(g.expires_at, 'infinity') > moment and g.starts_at <= moment
           and (g.balance > 0 or g.balance is null)
         -- What is unlimited first: it costs nothing that could be kept.
         order by g.balance is not null, coalesce(g.expires_at, 'infinity'), g.source, g.created_at, g.id
    loop
        unlimited := unlimited or available.balance is null;
        total := total + coalesce(available.balance, 0);
        part := least(missing, available.balance);
        if part > 0 and usage.usage_type = 'consumed' then
            ids := ids || available.id;
            parts := parts || part;
            missing := missing - part;
        end if;
    end loop;
    if usage.usage_type = 'allocated' then
        total := greatest(total - usage.allocated, 0);
    end if;

    if unlimited or total >= wanted then
        insert into public.quota_consumptions (organization_id, idempotency_key, kind, amount, grant_ids, grant_amounts)
        values (organization, key, wanted_kind, wanted, ids, parts)
        on conflict (organization_id, idempotency_key) do nothing;
        if found then
            if usage.usage_type = 'allocated' then
                update public.quota_usage u set allocated = u.allocated + wanted
                 where u.organization_id = organization and u.kind = wanted_kind;
            else
                for i in 1 .. cardinality(ids) loop
                    update public.grants g set spent = g.spent + parts[i] where g.id = ids[i];
                end loop;
            end if;
            outcome := 'consumed';
            remaining := case when not unlimited then total - wanted end;
            return;
        end if;
    end if;

    remaining := case when not unlimited then total end;
    select c.kind, c.amount, c.released_at into earlier from public.quota_consumptions c
     where c.organization_id = organization and c.idempotency_key = key;
    if found then
        outcome := case when earlier.kind <> wanted_kind or earlier.amount <> wanted then 'mismatch'
                        when earlier.released_at is not null then 'released' else 'repeated' end;
        return;
    end if;
    if usage is null then
        if not exists (select from public.organizations o where o.id = organization) then
            outcome := 'unknown_organization';
            return;
        elsif not exists (select from public.quota_kinds k where k.name = wanted_kind) then
            outcome := 'unknown_kind';
            return;
        end if;
    end if;
    outcome := 'exceeded';
    resets_at := public.cgk_quota_resets_at(organization, wanted_kind);
end
$$;

-- When more of a kind is granted by itself: with the next grant that begins, or the next period of a subscription that is renewed.
-- Null: not known, and for a kind that is allocated, which is given back by whoever has it.
create function cgk_quota_resets_at(organization uuid, of_kind text) returns timestamptz
    language sql stable
    set search_path = pg_catalog, pg_temp
as $$
    select min(moment) from (
        select g.starts_at from public.grants g
         where g.organization_id = organization and g.kind = of_kind and g.revoked_at is null and g.starts_at > clock_timestamp()
        union all
        select s.period_end from public.subscriptions s
          join public.plan_entitlements e on e.plan_id = s.plan_id and e.kind = of_kind and e.renewal = 'period'
          join public.quota_kinds k on k.name = e.kind and k.usage_type = 'consumed'
         where s.organization_id = organization and s.status in ('active', 'trialing') and not s.cancel_at_period_end
           and s.period_end > clock_timestamp()
           and coalesce(e.amount, 1) > 0
    ) as t (moment)
$$;

-- Gives back what was counted under a key. True: it was given back now; false: it was before, or the key was never counted. What was
-- taken from a grant that has expired meanwhile is gone with it; what was taken from one that a change of the plan has replaced
-- goes to the one that counts instead.
create function cgk_quota_release(organization uuid, key text) returns boolean
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    taken record;
    usage record;
begin
    select c.kind into taken from public.quota_consumptions c
     where c.organization_id = organization and c.idempotency_key = key and c.released_at is null;
    if not found then
        return false;
    end if;
    select u.allocated, k.usage_type into usage
      from public.quota_usage u join public.quota_kinds k on k.name = u.kind
     where u.organization_id = organization and u.kind = taken.kind for no key update of u;
    update public.quota_consumptions c set released_at = clock_timestamp()
     where c.organization_id = organization and c.idempotency_key = key and c.released_at is null
    returning c.kind, c.amount, c.grant_ids, c.grant_amounts into taken;
    if not found then
        return false;
    end if;
    if usage.usage_type = 'allocated' then
        update public.quota_usage u set allocated = u.allocated - taken.amount
         where u.organization_id = organization and u.kind = taken.kind;
        return true;
    end if;
    for i in 1 .. cardinality(taken.grant_ids) loop
        update public.grants g set spent = g.spent - taken.grant_amounts[i] where g.id = taken.grant_ids[i];
        update public.grants g set carried = g.carried - taken.grant_amounts[i]
          from public.grants earlier
         where earlier.id = taken.grant_ids[i] and earlier.source = 'subscription' and g.source = 'subscription'
           and g.organization_id = organization and g.kind = taken.kind and g.renewal = earlier.renewal
           and g.revoked_at is null and g.id <> earlier.id and g.carried >= taken.grant_amounts[i]
           and g.created_at > earlier.created_at
           and (g.renewal = 'once' or earlier.expires_at > g.starts_at);
    end loop;
    return true;
end
$$;

-- Brings the grants of a subscription in line with it, in the transaction that has changed and locked its row. The changes:
--
--   replace   it has another plan, or is new: the grants of the organization's subscriptions are revoked, those of this plan issued
--   renew     it has a new period: what the plan includes in each period is issued for it
--   end       it has ended: its grants are revoked
--
-- What was spent in a period counts in it under every plan: a change of the plan and back makes no more of it. Grants of other
-- sources stay as they are. Returns how many were revoked, and which were issued.
create function cgk_change_subscription_grants(subscription uuid, change text, out revoked integer, out issued jsonb)
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    subscribed record;
    moment     timestamptz;
    starts     timestamptz;
begin
    select s.* into strict subscribed from public.subscriptions s where s.id = subscription;
    if change not in ('replace', 'renew', 'end') then
        raise invalid_parameter_value using message = format('no change of a subscription: %s', change);
    end if;
    insert into public.quota_usage (organization_id, kind)
    select subscribed.organization_id, e.kind from public.plan_entitlements e
     where e.plan_id = subscribed.plan_id and change <> 'end'
     group by e.kind order by e.kind
    on conflict (organization_id, kind) do nothing;
    -- All kinds in one order, against whoever consumes.
    perform 1 from public.quota_usage u where u.organization_id = subscribed.organization_id order by u.kind for no key update;
    moment := clock_timestamp();

    revoked := 0;
    if change <> 'renew' then
        starts := least(subscribed.period_start, moment);
        update public.grants g set revoked_at = moment
         where g.organization_id = subscribed.organization_id and g.source = 'subscription' and g.revoked_at is null;
        get diagnostics revoked = row_count;
    else
        -- Where the new period starts before the old one's end, as at the end of a trial that is cut short, the old one ends there.
        starts := subscribed.period_start;
        update public.grants g
           set expires_at = greatest(g.starts_at, starts),
               revoked_at = case when g.starts_at >= starts then coalesce(g.revoked_at, moment) else g.revoked_at end
         where g.organization_id = subscribed.organization_id and g.source = 'subscription' and g.renewal = 'period'
           and g.expires_at > starts;
    end if;
    with new_grants as (
        insert into public.grants (organization_id, kind, source, subscription_id, renewal, amount, carried, starts_at, expires_at,
                                   created_at)
        select subscribed.organization_id, e.kind, 'subscription', subscribed.id, e.renewal, e.amount,
               coalesce((select sum(g.spent) from public.grants g
                          where g.organization_id = subscribed.organization_id and g.kind = e.kind and g.source = 'subscription'
                            and g.renewal = e.renewal
                            and (e.renewal = 'once' or g.expires_at > starts)), 0),
               starts,
               case e.renewal when 'period' then subscribed.period_end end, moment
          from public.plan_entitlements e
         where e.plan_id = subscribed.plan_id and (change = 'replace' or change = 'renew' and e.renewal = 'period')
         order by e.kind
        on conflict (subscription_id, kind, renewal, starts_at) where subscription_id is not null and revoked_at is null do nothing
        returning kind, amount, balance, expires_at
    )
    select coalesce(jsonb_agg(jsonb_build_object('kind', n.kind, 'amount', n.amount, 'balance', n.balance,
                                                 'expires_at', n.expires_at) order by n.kind), '[]')
      into issued from new_grants n;
end
$$;

-- Subscriptions that were carried over from billing get what their plans include; 020 has no grants yet.
do $$
declare
    item record;
begin
    for item in select s.id from subscriptions s where s.status <> 'canceled' order by s.id loop
        perform cgk_change_subscription_grants(item.id, 'replace');
    end loop;
end
$$;

-- A confirmed member has a seat, from its confirmation to its removal, whichever way both come about. Here it is counted; whether there
-- is one left is asked by who adds a member (cgk::platform::Members). The function is the owner's: who changes members need not have
-- rights on quota.
create function cgk_memberships_seat() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op <> 'INSERT' and old.confirmed_at is not null
       and (tg_op = 'DELETE' or new.confirmed_at is null or new.organization_id <> old.organization_id) then
        perform public.cgk_quota_release(old.organization_id, 'membership/' || old.id);
    end if;
    if tg_op <> 'DELETE' and new.confirmed_at is not null then
        insert into public.quota_usage (organization_id, kind)
        select new.organization_id, k.name from public.quota_kinds k where k.name = 'seats' and k.usage_type = 'allocated'
        on conflict (organization_id, kind) do nothing;
        perform 1 from public.quota_usage u where u.organization_id = new.organization_id and u.kind = 'seats' for no key update;
        if found then
            insert into public.quota_consumptions as c (organization_id, idempotency_key, kind, amount)
            values (new.organization_id, 'membership/' || new.id, 'seats', 1)
            on conflict (organization_id, idempotency_key) do update set released_at = null where c.released_at is not null;
            if found then
                update public.quota_usage u set allocated = u.allocated + 1
                 where u.organization_id = new.organization_id and u.kind = 'seats';
            end if;
        end if;
    end if;
    return null;
end
$$;

create trigger memberships_seat
    after insert or delete or update of confirmed_at, organization_id on memberships
    for each row execute function cgk_memberships_seat();

insert into quota_usage (organization_id, kind, allocated)
select m.organization_id, 'seats', count(*) from memberships m where m.confirmed_at is not null group by m.organization_id
on conflict (organization_id, kind) do update set allocated = excluded.allocated;
insert into quota_consumptions (organization_id, idempotency_key, kind, amount)
select m.organization_id, 'membership/' || m.id, 'seats', 1 from memberships m where m.confirmed_at is not null;

select cgk_protect_shared_table('quota_usage', 'organization_id', '{organization_id,kind,allocated}');
select cgk_protect_shared_table('grants', 'organization_id',
    '{id,organization_id,kind,source,renewal,amount,carried,spent,balance,starts_at,expires_at,revoked_at,created_at,updated_at}');
select cgk_protect_shared_table('quota_consumptions', 'organization_id',
    '{organization_id,kind,amount,released_at,created_at}');

comment on table  quota_usage                        is 'One row per organization and kind of quota; locked by whoever changes what is left.';
comment on table  grants                             is 'What an organization may use, by source.';
comment on column grants.amount                      is 'Null: unlimited.';
comment on column grants.carried                     is 'Spent in the same period before this grant replaced another.';
comment on column grants.balance                     is 'What is left of it. Null: unlimited.';
comment on column grants.expires_at                  is 'Null: does not expire. An expired grant counts nothing.';
comment on column grants.reference                   is 'The id of the purchase or promocode, where it came from.';
comment on table  quota_consumptions                 is 'What was used, under which key. A key counts once.';
comment on column quota_consumptions.idempotency_key is 'Chosen by the caller.';
comment on function cgk_quota_consume(uuid, text, bigint, text)          is 'Consumes quota; called by cgk::platform::Quota.';
comment on function cgk_quota_resets_at(uuid, text)                      is 'When more of a kind is granted by itself.';
comment on function cgk_quota_release(uuid, text)                        is 'Gives consumed quota back; called by cgk::platform::Quota.';
comment on function cgk_change_subscription_grants(uuid, text)           is 'Brings grants in line with a subscription; called by cgk::platform::Subscriptions.';
