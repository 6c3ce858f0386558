-- The outbox: domain events, written in the transaction that they tell of and delivered afterwards by cgk::platform::Relay.
--
-- A tenant's role may insert events of its own organization, and read none.

-- dead: given up after too many attempts; nothing is delivered of it until somebody asks for it.
create type domain_event_status as enum ('pending', 'delivered', 'dead');

-- organization_id has no foreign key: the event that an organization was deleted is delivered after it.
create table domain_events (
    id              uuid                not null default gen_random_uuid(),
    organization_id uuid,
    -- Whose events are delivered one after the other: the organization; for those of none, the nil UUID.
    queue_id        uuid                not null generated always as
                                        (coalesce(organization_id, '00000000-0000-0000-0000-000000000000'::uuid)) stored,
    -- The order in which events were written, which is not that in which they were committed.
    position        bigint              not null generated always as identity,
    -- The place in the queue, without gaps; a relay gives it when it first sees the event.
    sequence        bigint,
    type            text                not null,
    subject         text,
    data            jsonb               not null default '{}',
    actor_kind      text,
    actor_id        text,
    request_id      text,
    occurred_at     timestamptz         not null default clock_timestamp(),
    status          domain_event_status not null default 'pending',
    attempts        integer             not null default 0,
    error           text,
    finished_at     timestamptz,

    constraint domain_events_pkey         primary key (id),
    constraint domain_events_position_key unique (position),

    constraint domain_events_type_check     check (char_length(type) <= 200 and type ~ '^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$'),
    constraint domain_events_subject_check  check (char_length(subject) between 1 and 500),
    constraint domain_events_data_check     check (pg_column_size(data) <= 1048576),
    constraint domain_events_attempts_check check (attempts >= 0),
    constraint domain_events_error_check    check (char_length(error) <= 4000),
    constraint domain_events_finished_check check ((finished_at is null) = (status = 'pending'))
);

-- What is to be delivered: queue by queue, those with a place in the queue first.
create index domain_events_pending_idx on domain_events (queue_id, sequence, position) where status = 'pending';
-- What was given up, and what is old enough to be removed.
create index domain_events_finished_at_idx on domain_events (status, finished_at) where status <> 'pending';

-- One row a queue. A relay that delivers from a queue has its row locked.
create table domain_event_queues (
    queue_id      uuid        not null,
    last_sequence bigint      not null default 0,
    -- Nothing of this queue is delivered before this time.
    attempt_at    timestamptz not null default '-infinity',

    constraint domain_event_queues_pkey primary key (queue_id)
);

-- Wakes relays. The channel is open to every role of the database, so the notice is empty. The function is the owner's, because a
-- tenant's role need not have the right to notify.
create function cgk_domain_events_inserted() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('cgk_events', '');
    return null;
end
$$;

create trigger domain_events_notify_insert after insert on domain_events
    for each statement execute function cgk_domain_events_inserted();

select cgk_protect_shared_table('domain_events', 'organization_id');
select cgk_protect_shared_table('domain_event_queues', null);

-- Types that begin with cgk. tell what the platform did, which no tenant's role says.
grant insert (id, organization_id, type, subject, data, actor_kind, actor_id, request_id) on domain_events to public;
create policy domain_events_tenant on domain_events for insert
    with check (organization_id = (select o.id from organizations o where o.slug = (select current_tenant_slug()))
                and not starts_with(type, 'cgk.'));

comment on table  domain_events              is 'The outbox. Delivered by relays, in order per queue.';
comment on column domain_events.id           is 'The id of the CloudEvent. Receivers know by it that an event came twice.';
comment on column domain_events.error        is 'What the last attempt failed with. For the operator.';
comment on column domain_events.finished_at  is 'When it was delivered or given up.';
comment on table  domain_event_queues        is 'The order of events and their next attempt, by organization.';
