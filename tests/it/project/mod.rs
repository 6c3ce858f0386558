//! The project's own rules.

pub(crate) mod circles;
pub(crate) mod docs;
pub(crate) mod docs_fleet;
pub(crate) mod docs_links;
pub(crate) mod docs_migrations;
pub(crate) mod error_texts;
pub(crate) mod features;
pub(crate) mod imports;
pub(crate) mod layering;
pub(crate) mod names;
pub(crate) mod plain_english;
pub(crate) mod public_api;
pub(crate) mod registry_sql;
pub(crate) mod security_page;
pub(crate) mod service_example;
pub(crate) mod sql_names;
pub(crate) mod surface;
