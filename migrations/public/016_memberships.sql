-- Who belongs to which organization, and as what. cgk::platform writes and reads this table; cgk::auth lets a user into an
-- organization by it.
--
-- A user is one person over all organizations. users.organization_id names the home organization, and users.role is the role
-- there, as before; what counts is the membership. Triggers keep the two the same in both directions, so a service that inserts
-- and updates users only goes on as it did.
--
-- users, sessions and organizations are locked against everybody (ACCESS EXCLUSIVE) until this migration commits. It reads all
-- users and sessions, and writes a row for each user.

create table memberships (
    id              uuid        not null default gen_random_uuid(),
    organization_id uuid        not null,
    user_id         uuid        not null,
    role            user_role   not null default 'member',
    confirmed_at    timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),

    constraint memberships_pkey                        primary key (id),
    -- The target of the sessions' foreign key.
    constraint memberships_organization_id_user_id_key unique (organization_id, user_id),
    constraint memberships_organization_id_fkey
        foreign key (organization_id) references organizations (id) on delete cascade,
    constraint memberships_user_id_fkey
        foreign key (user_id) references users (id) on delete cascade
);

-- The organizations of a user; also the index behind the foreign key.
create index memberships_user_id_idx on memberships (user_id);
-- Pages of the members of an organization.
create index memberships_organization_id_created_at_id_idx on memberships (organization_id, created_at, id);

create trigger memberships_set_updated_at
    before update on memberships
    for each row execute function set_updated_at();

-- One row of an address is the person; other rows of the same address, of other organizations, are duplicates, which
-- `cgk user:list --duplicates` lists and `cgk user:merge` joins. Nothing is joined by itself, and none of the rows is refused.
alter table users add column holds_address boolean not null default true;
update users u set holds_address = false
 where exists (select from users o
                where lower(o.email collate "C") = lower(u.email collate "C") and (o.created_at, o.id) < (u.created_at, u.id));
-- cgk:accept index-not-concurrent it is one of the things that are true together when this migration commits
create unique index users_holds_address_key on users (lower(email collate "C")) where holds_address;

-- The duplicates, which are few.
-- cgk:accept index-not-concurrent it is one of the things that are true together when this migration commits
create index users_duplicates_idx on users (created_at, id) where not holds_address;
-- Who gets another password is signed out everywhere.
-- cgk:accept index-not-concurrent the file's other statements hold locks on these tables already
create index sessions_user_id_idx on sessions (user_id);

-- A row that comes later is a duplicate, also one that code inserts which knows nothing of memberships. Inside a tenant, where the
-- search path keeps tenants apart, other organizations' addresses are not seen, and must not be guessed from an error either.
create function cgk_users_address() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.holds_address := coalesce(current_setting('app.current_organization_id', true), '') = ''
        and not exists (select from public.users u
                         where lower(u.email collate "C") = lower(new.email collate "C") and u.holds_address and u.id <> new.id);
    return new;
end
$$;

create trigger users_address
    before insert or update of email on users
    for each row execute function cgk_users_address();

insert into memberships (organization_id, user_id, role, confirmed_at, created_at)
select u.organization_id, u.id, u.role, case when u.status <> 'invited' then u.created_at end, u.created_at from users u;

-- A new user is a member of its home organization. A change of role, status or home there is one of the membership.
create function cgk_users_membership() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'INSERT' or new.organization_id <> old.organization_id then
        insert into public.memberships (organization_id, user_id, role, confirmed_at)
        values (new.organization_id, new.id, new.role, case when new.status <> 'invited' then now() end)
            on conflict (organization_id, user_id) do nothing;
    end if;
    if tg_op = 'UPDATE' then
        if new.organization_id <> old.organization_id then
            delete from public.memberships m where m.organization_id = old.organization_id and m.user_id = new.id;
        end if;
        update public.memberships m
           set role = new.role
         where new.role <> old.role and m.organization_id = new.organization_id and m.user_id = new.id and m.role <> new.role;
        update public.memberships m
           set confirmed_at = now()
         where old.status = 'invited' and new.status = 'active'
           and m.organization_id = new.organization_id and m.user_id = new.id and m.confirmed_at is null;
    end if;
    return null;
end
$$;

create trigger users_membership_insert
    after insert on users
    for each row execute function cgk_users_membership();
create trigger users_membership_update
    after update of role, status, organization_id on users
    for each row
    when (new.role is distinct from old.role or new.status is distinct from old.status
          or new.organization_id is distinct from old.organization_id)
    execute function cgk_users_membership();

-- The role in the home organization stands in users too. Whoever is no member there any more has no role that counts.
create function cgk_memberships_home() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'DELETE' then
        update public.users u set role = 'member'
         where u.id = old.user_id and u.organization_id = old.organization_id and u.role <> 'member';
    else
        update public.users u set role = new.role
         where u.id = new.user_id and u.organization_id = new.organization_id and u.role <> new.role;
    end if;
    return null;
end
$$;

create trigger memberships_home_update
    after update of role on memberships
    for each row when (new.role is distinct from old.role) execute function cgk_memberships_home();
create trigger memberships_home_delete
    after delete on memberships
    for each row execute function cgk_memberships_home();

-- The users of an organization are deleted with it, but for those who are members of another one: that becomes their home.
create function cgk_organization_home() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    update public.users u set organization_id = n.organization_id, role = n.role
      from (select distinct on (m.user_id) m.user_id, m.organization_id, m.role
              from public.users w join public.memberships m on m.user_id = w.id
             where w.organization_id = old.id and m.organization_id <> old.id and m.confirmed_at is not null
               and not exists (select from public.users o
                                where o.organization_id = m.organization_id and o.id <> w.id
                                  and lower(o.email collate "C") = lower(w.email collate "C"))
             order by m.user_id, m.created_at, m.id) n
     where u.id = n.user_id;
    return old;
end
$$;

create trigger organizations_home
    before delete on organizations
    for each row execute function cgk_organization_home();

-- A session is one of a member: whoever is removed is out, in that organization alone.
alter table sessions drop constraint sessions_organization_id_user_id_fkey;
-- cgk:accept constraint-not-valid the sessions are few beside what waits for this migration anyway
alter table sessions add constraint sessions_organization_id_user_id_fkey
    foreign key (organization_id, user_id) references memberships (organization_id, user_id) on delete cascade;

-- Who remembers a user's role or session looks anew, as of 010. What is inserted is not told: no process can have seen a session
-- of it.
create function cgk_memberships_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    changed text[];
begin
    if tg_op = 'DELETE' then
        select array_agg('user:' || o.user_id) into changed from old_rows o;
    else
        select array_agg('user:' || d.user_id) into changed
          from ((select o.organization_id, o.user_id, o.role, o.confirmed_at is null from old_rows o
                 except select n.organization_id, n.user_id, n.role, n.confirmed_at is null from new_rows n)
                union all
                (select n.organization_id, n.user_id, n.role, n.confirmed_at is null from new_rows n
                 except select o.organization_id, o.user_id, o.role, o.confirmed_at is null from old_rows o)) d;
    end if;
    perform public.cgk_notify_changes(changed);
    return null;
end
$$;

create trigger memberships_notify_update after update on memberships
    referencing old table as old_rows new table as new_rows
    for each statement execute function cgk_memberships_changed();
create trigger memberships_notify_delete after delete on memberships
    referencing old table as old_rows for each statement execute function cgk_memberships_changed();
create trigger memberships_notify_truncate after truncate on memberships
    for each statement execute function cgk_table_truncated();
alter table memberships enable always trigger memberships_notify_update, enable always trigger memberships_notify_delete,
    enable always trigger memberships_notify_truncate;

select cgk_protect_shared_table('memberships', 'organization_id',
                                '{id,organization_id,user_id,role,confirmed_at,created_at,updated_at}');

comment on table  memberships              is 'Who belongs to which organization, and as what.';
comment on column memberships.confirmed_at is 'Null: invited, and not let in yet.';
comment on column users.holds_address      is 'True in one row of each address; the others are duplicates, to be merged.';
