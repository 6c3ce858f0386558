//! The registry of tenants: the table `public.organizations`, which lists all tenants. This module also reads the facts
//! of the catalogue about each tenant. Code that needs a tenant's row, or the list of tenants, uses this module.

pub(crate) mod aliases;
#[cfg(any(feature = "migrate", feature = "platform"))]
mod change_notices;
#[cfg(feature = "migrate")]
mod contents;
#[cfg(feature = "migrate")]
mod entered;
mod facts;
mod find;
#[cfg(feature = "migrate")]
mod guard;
#[cfg(feature = "migrate")]
mod keep_aliases;
mod presence;
mod read;
mod rows;
#[cfg(feature = "migrate")]
mod seeds;
pub(crate) mod sql;
#[cfg(feature = "migrate")]
mod warm;

#[cfg(any(feature = "migrate", feature = "platform"))]
pub(crate) use change_notices::unnotified_sql;
#[cfg(feature = "migrate")]
pub(crate) use contents::contents_of;
#[cfg(feature = "migrate")]
pub use contents::{SchemaContents, SizeSource};
#[cfg(feature = "migrate")]
pub use entered::EnteredSession;
#[cfg(feature = "migrate")]
pub(crate) use entered::{SHORT_LOCK_WAIT, entered_sessions, in_use, terminate, wait_until_left};
pub(crate) use facts::{RoleState, TenantFacts, role_of};
pub(crate) use find::{FIND, found_tenant, not_found, slug_of};
#[cfg(feature = "migrate")]
pub use guard::RegistryGuard;
#[cfg(feature = "migrate")]
pub(crate) use guard::{GuardFound, guard_registry, inspect_guard};
#[cfg(feature = "migrate")]
pub use keep_aliases::TenantAlias;
#[cfg(feature = "migrate")]
pub(crate) use keep_aliases::{
    aliases_exist, aliases_of, create_aliases, drop_alias, forget_aliases_sql, keep_alias_sql, refuse_alias,
};
pub(crate) use presence::{REGISTRY_IS_HIDDEN, exists, require, require_sight};
pub(crate) use read::{Facts, RegistryRow, Slugs, facts_of, facts_of_all, facts_of_fleet, facts_rows};
pub(crate) use rows::{
    activate_sql, delete_sql, demand_row_version_sql, demand_sql, insert_sql, is_there_sql, rename_sql, row_version,
    set_status_sql,
};
#[cfg(feature = "migrate")]
pub(crate) use seeds::{Seeds, copy_seeds_sql, create_seeds, record_seeds_sql, seeds_exist, seeds_of};
#[cfg(feature = "migrate")]
pub(crate) use warm::{WarmSchema, claim_warm, create_warm, has_warm, warm_schemas};

/// The name of the table in SQL.
const TABLE: &str = "public.organizations";
