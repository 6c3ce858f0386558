//! Lists the tenants of the registry, filtered and sorted.

use crate::{
    db::Operator,
    error::Result,
    ident::SchemaName,
    migrate::{self, Migrations, SchemaState, TenantState},
    registry::{self, SchemaContents, TenantAlias},
    tenant::{StrangeRow, TenantStatus},
};
use std::{cmp::Reverse, collections::HashMap};

/// Filters and order of a list.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ListOptions {
    /// Only tenants with one of these statuses. Empty: any status.
    pub statuses: Vec<TenantStatus>,
    /// Only tenants whose schemas are in one of these states. Empty: any state.
    pub states: Vec<StateFilter>,
    /// The order.
    pub sort: ListSort,
    /// Whether the order is reversed.
    pub direction: ListDirection,
    /// Whether tables, rows and sizes are read.
    pub contents: ListContents,
}

/// A filter for the state of schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateFilter {
    /// All migrations are applied.
    AtHead,
    /// Migrations are pending.
    Behind,
    /// Any other state: something is missing, or the ledger and the files do not match.
    Broken,
}

/// The sort order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListSort {
    /// By slug.
    #[default]
    Slug,
    /// By the display name, case-insensitive.
    Name,
    /// By registration time, the oldest first.
    Created,
    /// By size on disk, the largest first.
    Size,
}

/// Whether the order of a list is reversed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListDirection {
    /// The order of [`ListSort`].
    #[default]
    Forward,
    /// The reverse order.
    Backward,
}

/// Whether a list includes the contents of schemas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListContents {
    /// Only if the order needs them.
    #[default]
    LeftOut,
    /// The tables, rows and size of every tenant. The server reads the size of each table's files.
    Included,
}

/// The result of [`list`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TenantList {
    /// The tenants.
    pub tenants: Vec<ListedTenant>,
    /// The number of tenants in the registry.
    pub registered: usize,
    /// Rows of the registry that are not valid tenants.
    pub strange: Vec<StrangeRow>,
}

/// One tenant in a list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListedTenant {
    /// The tenant, and the state of its schema.
    pub state: TenantState,
    /// The contents of its schema; `None` if they were not read or there is no schema.
    pub contents: Option<SchemaContents>,
    /// The former slugs by which services still find it.
    pub aliases: Vec<TenantAlias>,
}

impl StateFilter {
    fn holds(self, state: &SchemaState) -> bool {
        let of = match state {
            SchemaState::AtHead => Self::AtHead,
            SchemaState::Behind { .. } => Self::Behind,
            _ => Self::Broken,
        };
        self == of
    }
}

/// Lists the tenants of the registry. Writes nothing.
///
/// # Locks
///
/// If contents are read, `access share` on each table while its size is read. If a table is locked for longer than
/// `session.lock_timeout`, all sizes are estimates from the catalogue ([`SizeSource`](super::SizeSource)).
///
/// # Errors
///
/// - Kind `NotReady`: there is no registry.
/// - Kinds `Unavailable` and `Failed`: an error of the server.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn list(operator: &Operator, migrations: &Migrations, options: &ListOptions) -> Result<TenantList> {
    let fleet = migrate::read_state(operator, migrations).await?;
    let registered = fleet.tenants.len();
    let mut tenants = fleet.tenants;
    tenants.retain(|tenant| {
        (options.statuses.is_empty() || options.statuses.contains(&tenant.tenant.status))
            && (options.states.is_empty() || options.states.iter().any(|filter| filter.holds(&tenant.state)))
    });
    let mut contents = HashMap::new();
    if options.contents == ListContents::Included || options.sort == ListSort::Size {
        let schemas: Vec<SchemaName> =
            tenants.iter().map(|tenant| SchemaName::of_tenant(&tenant.tenant.slug)).collect();
        contents = registry::contents_of(operator, &schemas).await?;
    }
    let mut aliases = registry::aliases_of(operator, None).await?;
    let mut tenants: Vec<ListedTenant> = tenants
        .into_iter()
        .map(|state| {
            let contents = contents.remove(SchemaName::of_tenant(&state.tenant.slug).as_str());
            let aliases = aliases.remove(&state.tenant.id).unwrap_or_default();
            ListedTenant { state, contents, aliases }
        })
        .collect();
    // The list is already sorted by slug. The sort is stable, so equal tenants stay in that order.
    match options.sort {
        ListSort::Slug => {}
        ListSort::Name => tenants.sort_by_cached_key(|tenant| tenant.state.tenant.name.to_lowercase()),
        ListSort::Created => tenants.sort_by_key(|tenant| tenant.state.tenant.created_at),
        ListSort::Size => tenants.sort_by_key(|tenant| Reverse(tenant.contents.map(|contents| contents.bytes))),
    }
    if options.direction == ListDirection::Backward {
        tenants.reverse();
    }
    Ok(TenantList { tenants, registered, strange: fleet.strange })
}
