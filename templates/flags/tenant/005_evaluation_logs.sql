-- A sample of what features were answered, to see what a rollout does. Rows are only added, as in 004. They are kept by
-- months: flags_maintain (007) drops the months that are too old, which is no delete and needs the schema's owner.
--
-- No foreign key: what was answered stays when the feature is gone.

create table evaluation_logs (
    id            uuid        not null default gen_random_uuid(),
    feature_key   text        not null,
    environment   text        not null,
    targeting_key text,
    is_on         boolean     not null,
    reason        text        not null,
    -- How many evaluations the row stands for: 100 where one of a hundred is written down.
    weight        integer     not null default 1,
    evaluated_at  timestamptz not null default now(),

    constraint evaluation_logs_pkey primary key (id, evaluated_at),

    constraint evaluation_logs_feature_key_check   check (char_length(feature_key) between 1 and 100),
    constraint evaluation_logs_environment_check   check (char_length(environment) between 1 and 100),
    constraint evaluation_logs_targeting_key_check check (char_length(targeting_key) between 1 and 255),
    constraint evaluation_logs_reason_check
        check (reason in ('default', 'rule', 'rollout', 'plan', 'disabled', 'targeting_key_missing')),
    constraint evaluation_logs_weight_check        check (weight >= 1),
    constraint evaluation_logs_evaluated_at_check
        check (evaluated_at between '2000-01-01 00:00+00' and '2999-12-31 00:00+00')
) partition by range (evaluated_at);

create index evaluation_logs_feature_key_idx on evaluation_logs (feature_key, evaluated_at desc);

-- Whatever has no month yet. flags_maintain moves it into the months that are kept.
create table evaluation_logs_default partition of evaluation_logs default;

create trigger evaluation_logs_refuse_change
    before update or delete on evaluation_logs
    for each row execute function flags_refuse_change();
create trigger evaluation_logs_refuse_truncate
    before truncate on evaluation_logs
    for each statement execute function flags_refuse_change();
-- A partition can be emptied by its own name; a trigger of a statement is not inherited.
create trigger evaluation_logs_refuse_truncate
    before truncate on evaluation_logs_default
    for each statement execute function flags_refuse_change();

-- Also where session_replication_role is replica. The trigger of a row is that of the partitions, too.
alter table evaluation_logs enable always trigger evaluation_logs_refuse_change,
    enable always trigger evaluation_logs_refuse_truncate;
alter table evaluation_logs_default enable always trigger evaluation_logs_refuse_truncate;

comment on table evaluation_logs is 'A sample of what features were answered. Rows are only added; months are dropped.';
