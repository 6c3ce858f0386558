//! `cgk::platform`: what a product builds around its tenants, on a real database.

mod shared_tables;
mod stage;
