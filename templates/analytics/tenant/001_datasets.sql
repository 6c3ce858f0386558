-- Datasets and their columns, and what all tables of the template share.

create function analytics_touch_updated_at() returns trigger
    language plpgsql
as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;

-- Whose rows these are. Inside a tenant, a row is written with that tenant's organization or not at all. Outside of all tenants,
-- as when a dump is restored, it is what the row says.
create function analytics_check_org_id() returns trigger
    language plpgsql
as $$
declare
    inside constant pg_catalog.text := pg_catalog.current_setting('app.current_organization_id', true);
begin
    if inside operator(pg_catalog.<>) '' and new.org_id::pg_catalog.text operator(pg_catalog.<>) inside then
        raise exception 'a row of organization % cannot be written in organization %', new.org_id, inside
            using errcode = 'check_violation', constraint = pg_catalog.concat(tg_table_name, '_org_id_check');
    end if;
    return new;
end
$$;

-- The functions below say whether a value can be read by the types of `cgk::analytics`. They are true or false, never null, because
-- a CHECK accepts null. A body behind RETURN is bound to what it names: no search path changes it.

-- Whether an object has all the required keys, and no others than these and the optional ones.
create function analytics_has_keys(value jsonb, required text[], optional text[] default '{}') returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) = 'object'
                then value ?& required and value - required - optional = '{}'
                else false end;

-- The name of a column of a dataset.
create function analytics_is_column_name(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) = 'string'
                then value #>> '{}' ~ '^[a-z_][a-z0-9_]{0,62}$'
                else false end;

-- A text for people.
create function analytics_is_label(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) = 'string'
                then char_length(value #>> '{}') between 1 and 200
                else false end;

-- One of some words.
create function analytics_is_one_of(value jsonb, words text[]) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) = 'string'
                then value #>> '{}' = any (words)
                else false end;

-- A number that a double can hold.
create function analytics_is_number(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) = 'number'
                then abs((value #>> '{}')::numeric) <= 1e300
                else false end;

-- A whole number, written as one.
create function analytics_is_integer(value jsonb, low integer, high integer) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) = 'number' and value #>> '{}' ~ '^[0-9]{1,9}$'
                then (value #>> '{}')::integer between low and high
                else false end;

-- An array of so many items.
create function analytics_is_array(value jsonb, low integer, high integer) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) = 'array'
                then jsonb_array_length(value) between low and high
                else false end;

-- Some names of columns.
create function analytics_are_column_names(value jsonb, high integer) returns boolean
    language sql immutable parallel safe
    return case when analytics_is_array(value, 1, high)
                then not exists (select from jsonb_array_elements(value) i (item) where not analytics_is_column_name(i.item))
                else false end;

-- {"type": "text"}, {"type": "number", "scale": 2}, {"type": "choice", "values": ["new", "paid"]}, …
create function analytics_is_column_type(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) <> 'object' then false
                else coalesce(case value -> 'type'
                    when '"text"'      then analytics_has_keys(value, '{type}')
                    when '"integer"'   then analytics_has_keys(value, '{type}')
                    when '"number"'    then analytics_has_keys(value, '{type}', '{scale}')
                                            and (not value ? 'scale' or analytics_is_integer(value -> 'scale', 0, 20))
                    when '"boolean"'   then analytics_has_keys(value, '{type}')
                    when '"date"'      then analytics_has_keys(value, '{type}')
                    when '"timestamp"' then analytics_has_keys(value, '{type}')
                    when '"choice"'    then analytics_has_keys(value, '{type,values}')
                                            and case when analytics_is_array(value -> 'values', 1, 100)
                                                     then (select bool_and(analytics_is_label(i.item))
                                                                  and count(distinct i.item) = count(*)
                                                             from jsonb_array_elements(value -> 'values') i (item))
                                                     else false end
                    else false end, false) end;

-- {"name": "amount", "kind": {"type": "number", "scale": 2}, "nullable": false, "description": "in EUR"}
create function analytics_is_column(value jsonb) returns boolean
    language sql immutable parallel safe
    return analytics_has_keys(value, '{name,kind,nullable}', '{description}')
       and analytics_is_column_name(value -> 'name')
       and analytics_is_column_type(value -> 'kind')
       and jsonb_typeof(value -> 'nullable') = 'boolean'
       and (not value ? 'description' or analytics_is_label(value -> 'description'));

-- The columns of a dataset: each name once.
create function analytics_are_columns(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when analytics_is_array(value, 1, 500)
                then (select bool_and(analytics_is_column(i.item)) and count(distinct i.item -> 'name') = count(*)
                        from jsonb_array_elements(value) i (item))
                else false end;

create table datasets (
    id          uuid        not null default gen_random_uuid(),
    org_id      uuid        not null default nullif(current_setting('app.current_organization_id', true), '')::uuid,
    name        text        not null,
    description text        not null default '',
    columns     jsonb       not null,
    row_count   bigint      not null default 0,
    loaded_at   timestamptz,
    created_by  uuid        not null,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),

    constraint datasets_pkey     primary key (id),
    constraint datasets_name_key unique (name),

    constraint datasets_name_check        check (char_length(name) between 1 and 200 and name = btrim(name)),
    constraint datasets_description_check check (char_length(description) <= 5000),
    constraint datasets_columns_check     check (analytics_are_columns(columns)),
    constraint datasets_row_count_check   check (row_count >= 0)
);

create trigger datasets_check_org_id
    before insert or update on datasets
    for each row execute function analytics_check_org_id();

create trigger datasets_touch_updated_at
    before update on datasets
    for each row execute function analytics_touch_updated_at();

comment on column datasets.org_id     is 'The organization of the tenant. Filled and checked: a row of another organization is refused.';
comment on column datasets.columns    is 'cgk::analytics::Columns';
comment on column datasets.created_by is 'The id of a user. No foreign key: users are in the shared schema.';
