//! `cgk::axum`: a service of two tenants, asked without a socket, on a real database.

mod context;
mod dropped;
mod layers;
mod limits;
#[path = "../it/support/log.rs"]
mod log;
mod matrix;
mod metered;
mod nested;
mod page;
mod problems;
mod quota;
mod service;
mod stage;
