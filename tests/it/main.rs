//! The integration tests: one binary, one server, a database per test.

mod access;
mod auth;
mod cli;
mod context;
mod db;
mod drift;
mod lifecycle;
mod migrate;
mod outside;
mod project;
mod provisioning;
mod registry;
mod request;
mod resolver;
mod sandbox;
mod stage;
mod tenancy;
mod support {
    pub(crate) mod cgk;
    pub(crate) mod fleet;
    pub(crate) mod json_schema;
    pub(crate) mod log;
    pub(crate) mod patience;
    pub(crate) mod score;
    #[cfg(target_os = "linux")]
    pub(crate) mod terminal;
}
