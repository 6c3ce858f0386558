-- Limits on what a domain event holds, by its text: 015 limits the data by the space that it takes, and text that repeats itself takes
-- little. A tenant's role may insert events, and a relay reads them for all organizations.
--
-- Reads no row (not valid), and locks domain_events against everybody for a moment.
alter table domain_events
    add constraint domain_events_data_text_check  check (octet_length(data::text) <= 1048576) not valid,
    add constraint domain_events_actor_check      check (char_length(actor_kind) <= 100 and char_length(actor_id) <= 500) not valid,
    add constraint domain_events_request_id_check check (char_length(request_id) <= 500) not valid;
