-- Three rules of domain events.
--
-- Old events: 027 limits what an event holds, also of rows from before it; a relay could neither number nor give up such a row, and it
-- stopped there. The limits now hold while an event is written; a relay gives it its number (sequence), and after that a row can be
-- changed whatever it holds. An event that has too much data is given up by the relay.
--
-- Types: those that begin with cgk. tell what the platform did. No tenant writes one, in whatever case: a receiver that compares
-- without case would take CGK. for cgk. The same holds for the actor kind operator. Every other actor of an event that a tenant
-- has written is what the tenant says. Where the search path keeps tenants apart, the login has both roles; it is inside a tenant
-- while app.current_organization_id is set.
--
-- Functions: cgk_quota_consume, cgk_quota_release, cgk_quota_resets_at and cgk_change_subscription_grants stay executable by everybody.
-- They run with the rights of the caller, a tenant's role has no right to change their tables, and every login that was admitted to
-- all shared tables calls them.
--
-- Reads no row (not valid), and locks domain_events against everybody for a moment.
alter table domain_events
    drop constraint domain_events_data_text_check,
    drop constraint domain_events_actor_check,
    drop constraint domain_events_request_id_check,
    add constraint domain_events_data_text_check
        check (case when sequence is null then octet_length(data::text) <= 1048576 else true end) not valid,
    add constraint domain_events_actor_check
        check (case when sequence is null then char_length(actor_kind) <= 100 and char_length(actor_id) <= 500 else true end)
        not valid,
    add constraint domain_events_request_id_check
        check (case when sequence is null then char_length(request_id) <= 500 else true end) not valid;

alter policy domain_events_tenant on domain_events
    with check (organization_id = (select o.id from organizations o where o.slug = (select current_tenant_slug()))
                and not starts_with(lower(type collate "C"), 'cgk.')
                and lower(actor_kind collate "C") is distinct from 'operator');

create policy domain_events_reserved on domain_events as restrictive for insert
    with check ((select coalesce(current_setting('app.current_organization_id', true), '') = '')
                or not starts_with(lower(type collate "C"), 'cgk.')
                   and lower(actor_kind collate "C") is distinct from 'operator');
