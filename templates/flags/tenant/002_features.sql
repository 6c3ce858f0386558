-- Features: what can be switched on and off. A key is unique in the organization, because the schema is the organization's.
--
--   boolean     on where enabled
--   percentage  on where enabled, for that percentage of those who ask: flag_bucket says for whom
--   plan        on where enabled and in the plan of the organization (public, plan_features)
--
-- That is what holds where no rule of an environment decides (003).

create table features (
    id          uuid         not null default gen_random_uuid(),
    key         text         not null,
    name        text         not null,
    description text         not null default '',
    kind        text         not null default 'boolean',
    enabled     boolean      not null default false,
    percentage  numeric(6,3),
    -- What is answered where the feature is on, and where it is off.
    on_value    jsonb        not null default 'true',
    off_value   jsonb        not null default 'false',
    created_at  timestamptz  not null default now(),
    updated_at  timestamptz  not null default now(),

    constraint features_pkey    primary key (id),
    constraint features_key_key unique (key),

    -- No colon: it ends the key in what is hashed.
    constraint features_key_check  check (key ~ '^[a-z][a-z0-9_.-]{0,99}$'),
    constraint features_name_check check (char_length(name) <= 200 and btrim(name) <> ''),
    constraint features_description_check check (char_length(description) <= 10000),
    constraint features_kind_check check (kind in ('boolean', 'percentage', 'plan')),
    constraint features_percentage_check
        check ((kind = 'percentage') = (percentage is not null) and percentage between 0 and 100),

    -- Both of one type, so that the application's code is the same for both. What is too deep or too large for JSON readers
    -- of other languages is refused here, and not when it is read.
    constraint features_values_check
        check (jsonb_typeof(on_value) = jsonb_typeof(off_value) and jsonb_typeof(on_value) <> 'null'),
    constraint features_values_size_check
        check (octet_length(on_value::text) <= 65536 and octet_length(off_value::text) <= 65536
               and not jsonb_path_exists(jsonb_build_array(on_value, off_value), 'lax $.**{33}')
               and not jsonb_path_exists(jsonb_build_array(on_value, off_value),
                                         'lax $.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))'))
);

-- The key decides who is in a rollout: under another one, everybody would be drawn anew.
create function flags_keep_feature_key() returns trigger
    language plpgsql
as $$
begin
    raise exception 'the key of a feature is kept, because it decides who is in a rollout: %', old.key
        using errcode = 'check_violation', constraint = 'features_key_is_kept', schema = tg_table_schema,
              table = tg_table_name, column = 'key';
end
$$;

create trigger features_keep_key
    before update of key on features
    for each row when (old.key is distinct from new.key)
    execute function flags_keep_feature_key();

create trigger features_set_updated_at
    before update on features
    for each row execute function flags_set_updated_at();

create trigger features_notify_change
    after insert or update or delete or truncate on features
    for each statement execute function flags_notify_change();
alter table features enable always trigger features_notify_change;

-- Where somebody stands in a rollout: 0 to 99,999. The first 13 hexadecimal digits of the SHA-256 of
-- '<key of the feature>:<key of whoever asks>' in UTF-8, modulo 100,000. 52 bits: every language's numbers hold them.
-- A feature of p percent is on for the buckets below p * 1000, so that a higher p keeps whoever is in.
create function flag_bucket(feature_key text, targeting_key text) returns integer
    language sql immutable strict parallel safe
    return mod(('x' || substr(encode(sha256(convert_to(feature_key || ':' || targeting_key, 'UTF8')), 'hex'), 1, 13))
                   ::bit(52)::bigint, 100000)::integer;

comment on table features is 'What can be switched on and off; the key is unique in the organization.';
comment on function flag_bucket(text, text) is 'Where somebody stands in the rollout of a feature: 0 to 99999.';
