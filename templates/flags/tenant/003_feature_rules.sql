-- What holds in one environment, beside what the feature says itself. The rules of a feature are tried by position; the
-- first whose conditions all hold decides, and none behind it is looked at:
--
--   enabled false               off
--   enabled true                on
--   enabled true, a percentage  on for that percentage, off for all others
--
-- A rule without conditions holds for everybody: an override of the environment, or its rollout. No rule gives a feature of
-- kind plan to an organization whose plan does not include it.

create table feature_rules (
    id             uuid         not null default gen_random_uuid(),
    feature_id     uuid         not null,
    environment_id uuid         not null,
    position       integer      not null,
    description    text         not null default '',
    conditions     jsonb        not null default '[]',
    enabled        boolean      not null,
    percentage     numeric(6,3),
    created_at     timestamptz  not null default now(),
    updated_at     timestamptz  not null default now(),

    constraint feature_rules_pkey primary key (id),
    -- Also the index behind environment_id, and of the query for the rules of an environment. It is checked when a
    -- statement ends, so that one can give several rules other positions.
    constraint feature_rules_environment_id_feature_id_position_key unique (environment_id, feature_id, position) deferrable,

    constraint feature_rules_feature_id_fkey
        foreign key (feature_id) references features (id) on delete cascade,
    constraint feature_rules_environment_id_fkey
        foreign key (environment_id) references environments (id) on delete cascade,

    constraint feature_rules_position_check    check (position between 1 and 1000),
    constraint feature_rules_description_check check (char_length(description) <= 10000),
    constraint feature_rules_percentage_check
        check (percentage between 0 and 100 and (enabled or percentage is null)),

    -- A list of {"attribute": …, "operator": …, "values": […]}, of exactly these three members. Every one of them is what
    -- cgk::flags::Condition reads.
    constraint feature_rules_conditions_check check (
        case jsonb_typeof(conditions) when 'array' then
            octet_length(conditions::text) <= 65536
            and jsonb_array_length(conditions) <= 20
            and jsonb_array_length(conditions) = jsonb_array_length(jsonb_path_query_array(conditions, 'strict $[*] ? (
                @.type() == "object"
                && !exists(@.keyvalue() ? (@.key != "attribute" && @.key != "operator" && @.key != "values"))
                && @.attribute.type() == "string" && @.attribute != ""
                && @.values.type() == "array" && @.values.size() >= 1
                && ((  (@.operator == "in" || @.operator == "not_in")
                    && !exists(@.values[*] ? (@.type() != "string" && @.type() != "boolean" && @.type() != "number"))
                    && !exists(@.values[*] ? (@.type() == "number" && (@ > 1e15 || @ < -1e15))))
                 || (  (@.operator == "starts_with" || @.operator == "ends_with" || @.operator == "contains")
                    && !exists(@.values[*] ? (@.type() != "string" || @ == "")))
                 || (  (@.operator == "less" || @.operator == "less_or_equal"
                        || @.operator == "greater" || @.operator == "greater_or_equal")
                    && @.values.size() == 1
                    && !exists(@.values[*] ? (@.type() != "number"))
                    && !exists(@.values[*] ? (@ > 1e15 || @ < -1e15)))))'))
        else false end)
);

create index feature_rules_feature_id_idx on feature_rules (feature_id);

create trigger feature_rules_set_updated_at
    before update on feature_rules
    for each row execute function flags_set_updated_at();

create trigger feature_rules_notify_change
    after insert or update or delete or truncate on feature_rules
    for each statement execute function flags_notify_change();
alter table feature_rules enable always trigger feature_rules_notify_change;

comment on table feature_rules is 'What a feature is in one environment: the first rule whose conditions hold decides.';
