-- Tells every process of a service what has changed about tenants and credentials, so that what it remembers of them can be
-- looked up anew: NOTIFY on the channel cgk_changes. Services listen to it; cgk::resolver is one.
--
-- Everybody who is connected may listen, tenants' roles included. So a notice names nothing: of each changed thing it carries
-- the first four hex digits of the SHA-256 of its name, such as slug:acme or key:<the stored hash in hex>. That is enough to
-- forget what may have changed, and a few things more. "*" stands for more than a thousand of them.
--
-- One notice a statement, whatever the number of its rows, and none where nothing has changed that lets somebody in or keeps
-- somebody out: the note that a key was used, a new password hash or a new setting are no such thing. What is inserted
-- into users, sessions and api_keys is not told either: no process can have seen its token before.

-- Sends one notice of what has changed.
create function cgk_notify_changes(changed text[]) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    marks text[];
begin
    select array_agg(distinct left(encode(sha256(convert_to(c.name, 'UTF8')), 'hex'), 4)) into marks
      from unnest(changed) as c (name);
    if cardinality(marks) > 1000 then
        perform pg_notify('cgk_changes', '*');
    elsif cardinality(marks) > 0 then
        perform pg_notify('cgk_changes', array_to_string(marks, ','));
    end if;
end
$$;

-- An organization that has come, gone, or changed its name or status. Both names, the old and the new one, are told.
create function cgk_organizations_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    changed text[];
begin
    if tg_op = 'INSERT' then
        select array_agg('slug:' || n.slug) into changed from new_rows n;
    elsif tg_op = 'DELETE' then
        select array_agg(t.name) into changed
          from old_rows o cross join lateral (values ('slug:' || o.slug), ('organization:' || o.id)) as t (name);
    else
        select array_agg(t.name) into changed
          from ((select o.id, o.slug, o.status from old_rows o except select n.id, n.slug, n.status from new_rows n)
                union all
                (select n.id, n.slug, n.status from new_rows n except select o.id, o.slug, o.status from old_rows o)) d
         cross join lateral (values ('slug:' || d.slug), ('organization:' || d.id)) as t (name);
    end if;
    perform public.cgk_notify_changes(changed);
    return null;
end
$$;

-- A user who has gone, or has another address, role, status or organization.
create function cgk_users_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    changed text[];
begin
    if tg_op = 'DELETE' then
        select array_agg('user:' || o.id) into changed from old_rows o;
    else
        select array_agg('user:' || d.id) into changed
          from ((select o.id, o.organization_id, o.email, o.role, o.status from old_rows o
                 except select n.id, n.organization_id, n.email, n.role, n.status from new_rows n)
                union all
                (select n.id, n.organization_id, n.email, n.role, n.status from new_rows n
                 except select o.id, o.organization_id, o.email, o.role, o.status from old_rows o)) d;
    end if;
    perform public.cgk_notify_changes(changed);
    return null;
end
$$;

-- A session that was live and has gone, or that was revoked or changed. The sweep of those that had ended tells nothing.
create function cgk_sessions_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    changed text[];
begin
    if tg_op = 'DELETE' then
        select array_agg('session:' || encode(o.token_hash, 'hex')) into changed
          from old_rows o where o.revoked_at is null and o.expires_at > current_timestamp;
    else
        select array_agg('session:' || encode(d.token_hash, 'hex')) into changed
          from ((select o.id, o.organization_id, o.user_id, o.token_hash, o.expires_at, o.revoked_at from old_rows o
                 except select n.id, n.organization_id, n.user_id, n.token_hash, n.expires_at, n.revoked_at from new_rows n)
                union all
                (select n.id, n.organization_id, n.user_id, n.token_hash, n.expires_at, n.revoked_at from new_rows n
                 except select o.id, o.organization_id, o.user_id, o.token_hash, o.expires_at, o.revoked_at from old_rows o)) d;
    end if;
    perform public.cgk_notify_changes(changed);
    return null;
end
$$;

-- The same of API keys. last_used_at is no change.
create function cgk_api_keys_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    changed text[];
begin
    if tg_op = 'DELETE' then
        select array_agg('key:' || encode(o.key_hash, 'hex')) into changed
          from old_rows o where o.revoked_at is null and (o.expires_at is null or o.expires_at > current_timestamp);
    else
        select array_agg('key:' || encode(d.key_hash, 'hex')) into changed
          from ((select o.id, o.organization_id, o.key_hash, o.name, o.scopes, o.expires_at, o.revoked_at from old_rows o
                 except
                 select n.id, n.organization_id, n.key_hash, n.name, n.scopes, n.expires_at, n.revoked_at from new_rows n)
                union all
                (select n.id, n.organization_id, n.key_hash, n.name, n.scopes, n.expires_at, n.revoked_at from new_rows n
                 except
                 select o.id, o.organization_id, o.key_hash, o.name, o.scopes, o.expires_at, o.revoked_at from old_rows o)) d;
    end if;
    perform public.cgk_notify_changes(changed);
    return null;
end
$$;

-- A whole table that was emptied.
create function cgk_table_truncated() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('cgk_changes', '*');
    return null;
end
$$;

-- Whoever may change a table fires its trigger, and that calls this one.
grant execute on function cgk_notify_changes(text[]) to public;

create trigger organizations_notify_insert after insert on organizations
    referencing new table as new_rows for each statement execute function cgk_organizations_changed();
create trigger organizations_notify_update after update on organizations
    referencing old table as old_rows new table as new_rows
    for each statement execute function cgk_organizations_changed();
create trigger organizations_notify_delete after delete on organizations
    referencing old table as old_rows for each statement execute function cgk_organizations_changed();
create trigger organizations_notify_truncate after truncate on organizations
    for each statement execute function cgk_table_truncated();

create trigger users_notify_update after update on users
    referencing old table as old_rows new table as new_rows for each statement execute function cgk_users_changed();
create trigger users_notify_delete after delete on users
    referencing old table as old_rows for each statement execute function cgk_users_changed();
create trigger users_notify_truncate after truncate on users
    for each statement execute function cgk_table_truncated();

create trigger sessions_notify_update after update on sessions
    referencing old table as old_rows new table as new_rows for each statement execute function cgk_sessions_changed();
create trigger sessions_notify_delete after delete on sessions
    referencing old table as old_rows for each statement execute function cgk_sessions_changed();
create trigger sessions_notify_truncate after truncate on sessions
    for each statement execute function cgk_table_truncated();

create trigger api_keys_notify_update after update on api_keys
    referencing old table as old_rows new table as new_rows for each statement execute function cgk_api_keys_changed();
create trigger api_keys_notify_delete after delete on api_keys
    referencing old table as old_rows for each statement execute function cgk_api_keys_changed();
create trigger api_keys_notify_truncate after truncate on api_keys
    for each statement execute function cgk_table_truncated();

-- Also where session_replication_role is replica, as in a bulk load. What logical replication writes fires no statement-level
-- trigger in any mode: cgk::resolver looks for that.
alter table organizations enable always trigger organizations_notify_insert,
    enable always trigger organizations_notify_update, enable always trigger organizations_notify_delete,
    enable always trigger organizations_notify_truncate;
alter table users enable always trigger users_notify_update, enable always trigger users_notify_delete,
    enable always trigger users_notify_truncate;
alter table sessions enable always trigger sessions_notify_update, enable always trigger sessions_notify_delete,
    enable always trigger sessions_notify_truncate;
alter table api_keys enable always trigger api_keys_notify_update, enable always trigger api_keys_notify_delete,
    enable always trigger api_keys_notify_truncate;

comment on function cgk_notify_changes(text[]) is 'Tells the processes that listen to cgk_changes what has changed, by digests of the names.';
