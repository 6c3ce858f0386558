-- What was used in a period counts in that period, in whatever order renew, change_plan and consume come; and the trigger functions
-- that run as the owner are only for the tables that they belong to.
--
-- Trigger functions: cgk_memberships_seat and cgk_domain_events_inserted are SECURITY DEFINER, and PUBLIC could execute them, so a
-- tenant's role could make them the trigger of a temporary table and so change the seats of every organization. Now only the owner
-- may execute them. A trigger does not need this right when it runs.
--
-- Periods: subscription_periods has them, also those of a plan that includes nothing per period. A grant of a period holds what was
-- used from its starts_at on. Where a renewal begins in the past, what was used since then counts in the new period. Where it begins
-- in the future, the grants of the periods before it stay, under every plan. cgk_subscription_renewal says which period a renewal
-- names. The renewals of the same periods make the same periods in any order.
--
-- Invitations: whoever became a member in another way than by accepting one, such as a row of users that a service inserts, kept the
-- open ones of its address. Now a trigger revokes them. An invitation knows the API key that wrote it. When the user who sent one is
-- deleted, it is revoked: it would be one of the service then.
--
-- Consumption: nothing is consumed in an organization that is suspended.
--
-- Reads subscriptions and the grants that have not expired, and locks it and quota_consumptions against everybody until it is
-- committed; invitations too, and memberships and users against everybody who writes.
revoke execute on function cgk_memberships_seat(), cgk_domain_events_inserted() from public;

-- The time of a consumption, which decides in which period it counts; now() would be the time when its transaction began.
alter table quota_consumptions alter column created_at set default clock_timestamp();

-- Since when what was used counts in a grant of a period, by which a release gives it back.
alter table grants add column counted_since timestamptz;

-- The periods of a subscription: those that have ended, the one that runs, and those that were paid ahead. No two of a subscription
-- overlap.
create table subscription_periods (
    organization_id uuid        not null,
    subscription_id uuid        not null,
    starts_at       timestamptz not null,
    ends_at         timestamptz not null,
    paid_until      timestamptz,
    is_trial        boolean     not null default false,

    constraint subscription_periods_pkey                 primary key (organization_id, subscription_id, starts_at),
    constraint subscription_periods_subscription_id_fkey foreign key (organization_id, subscription_id)
        references subscriptions (organization_id, id) on delete cascade,

    constraint subscription_periods_ends_at_check check (ends_at >= starts_at)
);

-- From the grants of before: a grant that starts when it was made, within another one, is that of a change of the plan.
with starting as (
    select g.organization_id, g.subscription_id, g.starts_at, max(g.expires_at) as ends_at from grants g
     where g.subscription_id is not null and g.renewal = 'period' and g.expires_at > now()
       and not (g.starts_at = g.created_at
                and exists (select from grants o where o.subscription_id = g.subscription_id and o.renewal = 'period'
                                                   and o.starts_at < g.starts_at and o.expires_at > g.starts_at))
     group by g.organization_id, g.subscription_id, g.starts_at
), known as (
    select k.organization_id, k.subscription_id, k.starts_at, k.ends_at from starting k
    union all
    select s.organization_id, s.id, s.period_start, s.period_end from subscriptions s
     where not exists (select from starting k
                        where k.subscription_id = s.id and k.starts_at <= s.period_start and k.ends_at >= s.period_end)
       and not exists (select from starting k where k.subscription_id = s.id and k.starts_at = s.period_start)
)
insert into subscription_periods (organization_id, subscription_id, starts_at, ends_at, is_trial)
select k.organization_id, k.subscription_id, k.starts_at,
       least(k.ends_at, lead(k.starts_at) over (partition by k.subscription_id order by k.starts_at)),
       coalesce(k.ends_at = s.trial_ends_at, false)
  from known k join subscriptions s on s.id = k.subscription_id;

select cgk_protect_shared_table('subscription_periods', 'organization_id',
    '{organization_id,subscription_id,starts_at,ends_at,paid_until,is_trial}');

comment on column grants.counted_since            is 'What was used from here on counts in this grant of a period.';
comment on table  subscription_periods            is 'The periods of subscriptions, also those that were paid ahead.';
comment on column subscription_periods.ends_at    is 'Earlier than it was paid until, if the next period started earlier.';
comment on column subscription_periods.paid_until is 'The latest end that a payment provider has named; null if it has named none.';
comment on column subscription_periods.is_trial   is 'The first period of a subscription that started with a trial.';

-- Which period of a subscription a renewal from new_start to new_end names: this one rule decides about its row, its periods and its
-- grants. It is a known period if the two starts differ by less than 24 hours, and by no more than half of the shorter of both: the
-- clocks of two systems differ. It is the trial only if the same is true of the two ends. Returns:
--
--   starts    the start of the known period, or of a new one. Null if the renewal changes nothing: it names the trial, what was before
--             the subscription, or the rest of a known period, as the invoice of a change of the plan does: it starts within one, and
--             their ends differ by less than an hour, and by less than half of what is left
--   paid      the latest end that was named for the period
--   ends      the same, or earlier if the next period starts before
--   known     whether the period is known
--   changes   whether the period is new, or ends at another time
--   newest    whether no later period is known
create function cgk_subscription_renewal(subscription uuid, new_start timestamptz, new_end timestamptz, out starts timestamptz,
                                         out paid timestamptz, out ends timestamptz, out known boolean, out changes boolean,
                                         out newest boolean)
    language plpgsql stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    subscribed record;
    named      record;
    first      record;
    following  timestamptz;
begin
    select s.organization_id, s.trial_ends_at into subscribed from public.subscriptions s where s.id = subscription;
    select p.* into named
      from public.subscription_periods p
     cross join lateral (
         select case when p.is_trial then subscribed.trial_ends_at else coalesce(p.paid_until, p.ends_at) end as until,
                greatest(p.starts_at - new_start, new_start - p.starts_at) as apart) length
     cross join lateral (
         select least(new_end - new_start, length.until - p.starts_at) / 2 as half,
                greatest(length.until - new_end, new_end - length.until) as ends_apart) other
     where p.organization_id = subscribed.organization_id and p.subscription_id = subscription
       and length.apart < interval '24 hours' and length.apart <= other.half
       and (not p.is_trial or other.ends_apart < interval '24 hours' and other.ends_apart <= other.half)
     order by p.is_trial desc, length.apart, p.starts_at limit 1;
    known := found;
    if known and named.is_trial then
        return;
    end if;
    starts := new_start;
    if known then
        starts := named.starts_at;
    else
        select p.starts_at, p.is_trial into first from public.subscription_periods p
         where p.organization_id = subscribed.organization_id and p.subscription_id = subscription
         order by p.starts_at limit 1;
        if first.is_trial and starts <= first.starts_at and first.starts_at - starts < interval '24 hours'
           and first.starts_at - starts <= (new_end - starts) / 2 then
            -- Paid from the start of the trial on, by another clock.
            starts := first.starts_at + interval '1 microsecond';
        end if;
        if starts <= first.starts_at or new_end <= starts
           or exists (select from public.subscription_periods p
                       cross join lateral (select coalesce(p.paid_until, p.ends_at) as until) own
                       where p.organization_id = subscribed.organization_id and p.subscription_id = subscription
                         and not p.is_trial and p.starts_at < starts and p.ends_at > starts
                         and greatest(own.until - new_end, new_end - own.until) < least(interval '1 hour', (new_end - starts) / 2)
                         -- An end that only the next period made is no end that was named.
                         and (p.paid_until is not null
                              or not exists (select from public.subscription_periods n
                                              where n.organization_id = p.organization_id
                                                and n.subscription_id = p.subscription_id and n.starts_at = p.ends_at))) then
            starts := null;
            return;
        end if;
    end if;
    select min(p.starts_at) into following from public.subscription_periods p
     where p.organization_id = subscribed.organization_id and p.subscription_id = subscription and p.starts_at > starts;
    paid := greatest(named.paid_until, new_end);
    ends := least(paid, following);
    changes := not known or ends <> named.ends_at;
    newest := following is null;
end
$$;

comment on function cgk_subscription_renewal(uuid, timestamptz, timestamptz) is
    'Which period of a subscription a renewal names; called by cgk::platform::Subscriptions.';

-- No foreign key: the invitation of a key that was deleted must not look like one of the service.
alter table invitations add column invited_by_key uuid;
comment on column invitations.invited_by_key is 'The API key that sent it, if no user did.';

-- Revokes the open invitations of a confirmed member's address to the organization, when the transaction commits: until then cgk
-- revokes them with an event, and an invitation is accepted before its member is confirmed. One that is being accepted at this moment
-- is skipped: who accepts it finds that it is a member already. The function is the owner's: who changes members need not have rights
-- on invitations.
create function cgk_memberships_invitations() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_relid <> 'public.memberships'::regclass then
        raise insufficient_privilege using message = 'cgk_memberships_invitations() is the trigger of public.memberships only';
    end if;
    update public.invitations i set revoked_at = clock_timestamp()
     where i.id in (select o.id from public.invitations o
                      join public.memberships m on m.organization_id = o.organization_id
                      join public.users u on u.id = m.user_id
                     where m.id = new.id and m.confirmed_at is not null and o.accepted_at is null and o.revoked_at is null
                       and lower(o.email collate "C") = lower(u.email collate "C")
                       for update of o skip locked);
    return null;
end
$$;
revoke execute on function cgk_memberships_invitations() from public;

create constraint trigger memberships_invitations
    after insert or update of confirmed_at, organization_id, user_id on memberships
    deferrable initially deferred
    for each row when (new.confirmed_at is not null) execute function cgk_memberships_invitations();

-- Revokes the open invitations that a user has sent before the user is deleted. It is the owner's, as above.
create function cgk_users_invitations() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_relid <> 'public.users'::regclass then
        raise insufficient_privilege using message = 'cgk_users_invitations() is the trigger of public.users only';
    end if;
    update public.invitations i set revoked_at = clock_timestamp()
     where i.invited_by = old.id and i.accepted_at is null and i.revoked_at is null;
    return old;
end
$$;
revoke execute on function cgk_users_invitations() from public;

create trigger users_invitations
    before delete on users
    for each row execute function cgk_users_invitations();

-- As in 021, and refuses to be the trigger of another table.
create or replace function cgk_memberships_seat() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_relid <> 'public.memberships'::regclass then
        raise insufficient_privilege using message = 'cgk_memberships_seat() is the trigger of public.memberships only';
    end if;
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

-- As in 021, and takes nothing in an organization that is suspended. What was taken before is repeated as before. One more outcome:
--
--   suspended  the organization is suspended, or its owner has deleted it; nothing was taken
create or replace function cgk_quota_consume(organization uuid, wanted_kind text, wanted bigint, key text,
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
    select u.allocated, k.usage_type, o.status = 'suspended' as is_suspended into usage
      from public.quota_usage u join public.quota_kinds k on k.name = u.kind
      join public.organizations o on o.id = u.organization_id
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

    if (unlimited or total >= wanted) and usage.is_suspended is not true then
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
    if exists (select from public.organizations o where o.id = organization and o.status = 'suspended') then
        outcome := 'suspended';
        return;
    end if;
    outcome := 'exceeded';
    resets_at := public.cgk_quota_resets_at(organization, wanted_kind);
end
$$;

-- As in 021, and what was used in a period goes back to the grant of that period that counts, however it was renewed.
create or replace function cgk_quota_release(organization uuid, key text) returns boolean
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
    returning c.kind, c.amount, c.created_at, c.grant_ids, c.grant_amounts into taken;
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
           and (g.renewal = 'once'
                or case when g.counted_since is not null
                        then taken.created_at >= g.counted_since and taken.created_at < g.expires_at
                        -- One of before.
                        else earlier.expires_at > g.starts_at or earlier.starts_at >= g.starts_at end);
    end loop;
    return true;
end
$$;

-- Brings the periods and grants of a subscription in line with it, in the transaction that has changed and locked its row. The changes:
--
--   replace   it has another plan, or is new: the grants of the organization's subscriptions are revoked, those of this plan issued,
--             for each period that has not ended
--   renew     it has the given period, or the one of its row that begins when the one before has ended: what the plan includes in each
--             period is issued for it, until the next one starts
--   end       it has ended: its grants are revoked
--
-- What was spent in a period counts in it under every plan: a change of the plan and back makes no more of it, and no less. Grants of
-- other sources stay as they are. Returns how many were revoked, and which were issued.
drop function cgk_change_subscription_grants(uuid, text);
create function cgk_change_subscription_grants(subscription uuid, change text, new_start timestamptz default null,
                                               new_end timestamptz default null, out revoked integer, out issued jsonb)
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    subscribed record;
    named      record;
    known      boolean := false;
    item       record;
    moment     timestamptz;
    starts     timestamptz;
    ends       timestamptz;
    following  timestamptz;
    late       bigint;
    late_grant uuid;
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
    starts := coalesce(new_start, subscribed.period_start);
    ends := coalesce(new_end, subscribed.period_end);
    revoked := 0;

    if change <> 'renew' then
        update public.grants g set revoked_at = moment
         where g.organization_id = subscribed.organization_id and g.source = 'subscription' and g.revoked_at is null;
        get diagnostics revoked = row_count;
        -- A period that was paid ahead never runs if its subscription ends before.
        update public.grants g set expires_at = g.starts_at
         where change = 'end' and g.organization_id = subscribed.organization_id and g.subscription_id = subscribed.id
           and g.renewal = 'period' and g.starts_at > moment;
        delete from public.subscription_periods p
         where change = 'end' and p.organization_id = subscribed.organization_id and p.subscription_id = subscribed.id
           and p.starts_at > moment;
        insert into public.subscription_periods (organization_id, subscription_id, starts_at, ends_at, is_trial)
        select subscribed.organization_id, subscribed.id, starts, ends, subscribed.trial_ends_at is not null
         where change = 'replace' and not exists (select from public.subscription_periods p
                            where p.organization_id = subscribed.organization_id and p.subscription_id = subscribed.id);
    else
        select * into named from public.cgk_subscription_renewal(subscription, starts, ends);
        if named.starts is null then
            issued := '[]';
            return;
        end if;
        known := named.known;
        starts := named.starts;
        ends := named.ends;
        select min(p.starts_at) into following from public.subscription_periods p
         where p.organization_id = subscribed.organization_id and p.subscription_id = subscribed.id and p.starts_at > starts;
    end if;
    if known then
        -- Its grants are replaced, and it ends where the renewal says.
        update public.grants g set revoked_at = moment
         where g.organization_id = subscribed.organization_id and g.subscription_id = subscribed.id and g.renewal = 'period'
           and g.revoked_at is null and g.starts_at >= starts and g.starts_at < coalesce(following, 'infinity');
        get diagnostics revoked = row_count;
        update public.grants g set expires_at = greatest(g.starts_at, ends)
         where g.organization_id = subscribed.organization_id and g.subscription_id = subscribed.id and g.renewal = 'period'
           and g.starts_at >= starts and g.starts_at < coalesce(following, 'infinity');
        update public.subscription_periods p set ends_at = ends, paid_until = named.paid
         where p.organization_id = subscribed.organization_id and p.subscription_id = subscribed.id and p.starts_at = starts;
    elsif change = 'renew' then
        -- What was used since the new period began is split off, so that it counts in the new one; also what was used after a period
        -- that was shortened later.
        for item in
            select g.* from public.grants g
             where g.organization_id = subscribed.organization_id and g.source = 'subscription' and g.renewal = 'period'
               and g.starts_at < starts and g.spent > 0 and starts <= moment
             order by g.created_at, g.id
        loop
            select least(coalesce(sum(t.amount), 0), item.spent) into late
              from public.quota_consumptions c cross join lateral unnest(c.grant_ids, c.grant_amounts) as t (id, amount)
             where c.organization_id = item.organization_id and c.kind = item.kind and c.created_at >= starts
               and c.released_at is null and t.id = item.id;
            continue when late = 0;
            insert into public.grants (organization_id, kind, source, subscription_id, renewal, amount, spent, starts_at, expires_at,
                                       revoked_at, created_at)
            values (item.organization_id, item.kind, item.source, item.subscription_id, item.renewal, item.amount, late, starts,
                    ends, moment, item.created_at)
            returning id into late_grant;
            update public.quota_consumptions c set grant_ids = array_replace(c.grant_ids, item.id, late_grant)
             where c.organization_id = item.organization_id and c.kind = item.kind and c.created_at >= starts
               and c.released_at is null and item.id = any (c.grant_ids);
            update public.grants g set spent = g.spent - late where g.id = item.id;
        end loop;
        -- Where the new period starts before the old one's end, as at the end of a trial that is cut short, the old one ends there.
        update public.grants g
           set expires_at = greatest(g.starts_at, starts),
               revoked_at = case when g.starts_at >= starts then coalesce(g.revoked_at, moment) else g.revoked_at end
         where g.organization_id = subscribed.organization_id and g.source = 'subscription' and g.renewal = 'period'
           and g.expires_at > starts and (g.starts_at < starts or g.revoked_at is null)
           and g.starts_at < coalesce(following, 'infinity');
        update public.subscription_periods p set ends_at = starts
         where p.organization_id = subscribed.organization_id and p.starts_at < starts and p.ends_at > starts;
        insert into public.subscription_periods (organization_id, subscription_id, starts_at, ends_at, paid_until)
        values (subscribed.organization_id, subscribed.id, starts, ends, case when new_start is not null then named.paid end);
    end if;

    with periods as (
        select p.starts_at, p.ends_at from public.subscription_periods p
         where p.organization_id = subscribed.organization_id and p.subscription_id = subscribed.id
           and case change when 'renew' then p.starts_at = starts else p.ends_at > moment end
    ), counted as (
        -- Since when what was used counts: also what was used of an earlier subscription's period that has not ended.
        select p.*,
               least(p.starts_at, (select min(o.starts_at) from public.subscription_periods o
                                    where o.organization_id = subscribed.organization_id
                                      and o.starts_at <= p.starts_at and o.ends_at > p.starts_at and p.starts_at <= moment),
                     (select min(g.starts_at) from public.grants g
                       where g.organization_id = subscribed.organization_id and g.source = 'subscription' and g.renewal = 'period'
                         and g.starts_at <= p.starts_at and g.expires_at > p.starts_at and p.starts_at <= moment)) as since
          from periods p
        union all
        -- What is included once.
        select least(starts, moment), null, null where change = 'replace'
    ), new_grants as (
        insert into public.grants (organization_id, kind, source, subscription_id, renewal, amount, carried, starts_at, expires_at,
                                   counted_since, created_at)
        select subscribed.organization_id, e.kind, 'subscription', subscribed.id, e.renewal, e.amount,
               coalesce((select sum(g.spent) from public.grants g
                          where g.organization_id = subscribed.organization_id and g.kind = e.kind and g.source = 'subscription'
                            and g.renewal = e.renewal
                            and (e.renewal = 'once' or g.starts_at >= c.since and g.starts_at < c.ends_at)), 0),
               c.starts_at, c.ends_at, c.since, moment
          from public.plan_entitlements e join counted c on (e.renewal = 'once') = (c.ends_at is null)
         where e.plan_id = subscribed.plan_id and change <> 'end'
         order by e.kind, c.starts_at
        on conflict (subscription_id, kind, renewal, starts_at) where subscription_id is not null and revoked_at is null do nothing
        returning kind, amount, balance, starts_at, expires_at
    )
    select coalesce(jsonb_agg(jsonb_build_object('kind', n.kind, 'amount', n.amount, 'balance', n.balance,
                                                 'expires_at', n.expires_at) order by n.kind, n.starts_at), '[]')
      into issued from new_grants n;
end
$$;

comment on function cgk_change_subscription_grants(uuid, text, timestamptz, timestamptz) is
    'Brings grants in line with a subscription; called by cgk::platform::Subscriptions.';
