//! The tenants of the registry, filtered and sorted.

use crate::{
    db::Operator,
    error::Result,
    ident::SchemaName,
    migrate::{self, Migrations, SchemaState, TenantState},
    registry::{self, SchemaContents},
    tenant::{StrangeRow, TenantStatus},
};
use std::{cmp::Reverse, collections::HashMap};

/// Which tenants are listed, in which order.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ListOptions {
    /// Only tenants with one of these statuses; empty for any.
    pub statuses: Vec<TenantStatus>,
    /// Only tenants whose schemas are in one of these states; empty for any.
    pub states: Vec<StateFilter>,
    /// The order.
    pub sort: ListSort,
    /// Whether the order is turned around.
    pub direction: ListDirection,
    /// Whether the contents of their schemas are looked at.
    pub contents: ListContents,
}

/// A state of a schema, to list those that are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateFilter {
    /// Everything is applied.
    AtHead,
    /// Migrations are pending.
    Behind,
    /// Anything else: something is missing, or the ledger and the files do not agree.
    Broken,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListSort {
    /// By slug.
    #[default]
    Slug,
    /// By the name for people, whether in capitals or not.
    Name,
    /// By when they were registered, the oldest first.
    Created,
    /// By what they take on disk, the largest first.
    Size,
}

/// Whether the order of a list is turned around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListDirection {
    /// As it is.
    #[default]
    Forward,
    /// Turned around.
    Backward,
}

/// Whether a list says what schemas hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListContents {
    /// Only where the order needs it.
    #[default]
    LeftOut,
    /// Tables, rows and size of every tenant. The server looks at the files of each table.
    Included,
}

/// The tenants that were asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TenantList {
    /// The tenants.
    pub tenants: Vec<ListedTenant>,
    /// How many there are in the registry.
    pub registered: usize,
    /// The rows of the registry that are no tenants.
    pub strange: Vec<StrangeRow>,
}

/// One tenant of a list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListedTenant {
    /// The tenant, and where its schema stands.
    pub state: TenantState,
    /// What its schema holds, where that was looked at and there is one.
    pub contents: Option<SchemaContents>,
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
/// With contents, `access share` on each table for the moment in which its size is taken. If a table stays locked longer than
/// `session.lock_timeout`, all sizes are the estimates of the catalogue ([`SizeSource`](super::SizeSource)).
///
/// # Errors
///
/// Kind `NotReady`: there is no registry. Kinds `Unavailable` and `Failed`: the server.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn list(operator: &Operator, migrations: &Migrations, options: &ListOptions) -> Result<TenantList> {
    let fleet = migrate::look(operator, migrations).await?;
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
    let mut tenants: Vec<ListedTenant> = tenants
        .into_iter()
        .map(|state| {
            let contents = contents.remove(SchemaName::of_tenant(&state.tenant.slug).as_str());
            ListedTenant { state, contents }
        })
        .collect();
    // They come sorted by slug, and keep that order where they are equal.
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
