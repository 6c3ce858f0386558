//! `cgk::platform`: what a product builds around its tenants, on a real database.

mod admin;
mod as_user;
mod audit;
mod duplicates;
mod event_rules;
mod events;
mod invitations;
mod members;
mod members_attacks;
mod memberships_carried_over;
mod organizations;
mod plans;
mod plans_cli;
mod quota;
mod quota_model;
mod relay_load;
mod secrets;
mod shared_tables;
mod sign_ups;
mod stage;
mod subscriptions;
mod support;
mod user_accounts;
mod webhook;
