//! Reads the tenants of a report, and groups them.

use super::model::{ReportedTenant, SharedSchema, TenantGroup};
use crate::{
    ident::SchemaName,
    migrate::{FleetState, Migrations, SchemaState, Set},
    registry::SchemaContents,
};
use std::collections::{BTreeMap, HashMap};

/// The states in the order in which a report shows them.
const STATES: [&str; 8] =
    ["at_head", "behind", "ahead", "diverged", "missing", "half_provisioned", "other_organization", "being_dropped"];

pub(super) fn reported(state: &FleetState, contents: &HashMap<String, SchemaContents>) -> Vec<ReportedTenant> {
    let reported = state.tenants.iter().map(|found| {
        let (state, pending, detail) = described(&found.state);
        let contents = contents.get(SchemaName::of_tenant(&found.tenant.slug).as_str());
        ReportedTenant {
            tenant: found.tenant.slug.to_string(),
            id: found.tenant.id.to_string(),
            name: found.tenant.name.clone(),
            status: found.tenant.status.to_string(),
            head: found.head.as_ref().map(ToString::to_string),
            state,
            pending,
            detail,
            tables: contents.map(|contents| contents.tables),
            rows_estimated: contents.map(|contents| contents.rows_estimated),
            bytes: contents.map(|contents| contents.bytes),
            bytes_before: None,
        }
    });
    reported.collect()
}

pub(super) fn shared_schema(state: &FleetState, migrations: &Migrations) -> SharedSchema {
    let (name, pending, _) = described(&state.public);
    SharedSchema {
        head: state.public_head.as_ref().map(ToString::to_string),
        newest: migrations.set(Set::Public).head().map(ToString::to_string),
        state: name,
        pending,
    }
}

/// Returns the name of a state, the number of pending migrations, and what is missing or differs.
fn described(state: &SchemaState) -> (&'static str, Option<usize>, Option<String>) {
    match state {
        SchemaState::AtHead => (state.name(), Some(0), None),
        SchemaState::Behind { pending } => (state.name(), Some(*pending), None),
        SchemaState::Diverged(found) => {
            (if found.is_only_ahead() { "ahead" } else { state.name() }, None, Some(found.summary()))
        }
        SchemaState::HalfProvisioned { missing } => (state.name(), None, Some(missing.to_string())),
        SchemaState::OtherOrganization { found } => {
            (state.name(), None, Some(format!("its schema belongs to organization {found}")))
        }
        SchemaState::Missing | SchemaState::BeingDropped => (state.name(), None, None),
    }
}

pub(super) fn by_state(tenants: &[ReportedTenant], named_max: usize) -> Vec<TenantGroup> {
    let mut groups = grouped(tenants, named_max, |tenant| tenant.state.to_owned());
    groups.sort_by_key(|group| STATES.iter().position(|state| group.key == *state));
    groups
}

pub(super) fn by_status(tenants: &[ReportedTenant], named_max: usize) -> Vec<TenantGroup> {
    let mut groups = grouped(tenants, named_max, |tenant| tenant.status.clone());
    groups.sort_by(|a, b| (b.key == "active").cmp(&(a.key == "active")).then_with(|| a.key.cmp(&b.key)));
    groups
}

/// Groups the tenants by migration. Names of migrations start with a number of at least three digits.
pub(super) fn by_version(tenants: &[ReportedTenant], named_max: usize) -> Vec<TenantGroup> {
    let mut groups = grouped(tenants, named_max, |tenant| tenant.head.clone().unwrap_or_else(|| "none".to_owned()));
    let version = |group: &TenantGroup| group.key.split('_').next().and_then(|number| number.parse::<u64>().ok());
    groups.sort_by(|a, b| version(b).cmp(&version(a)).then_with(|| a.key.cmp(&b.key)));
    groups
}

fn grouped(tenants: &[ReportedTenant], named_max: usize, key: impl Fn(&ReportedTenant) -> String) -> Vec<TenantGroup> {
    let mut groups: BTreeMap<String, TenantGroup> = BTreeMap::new();
    for tenant in tenants {
        let key = key(tenant);
        let group =
            groups.entry(key).or_insert_with_key(|key| TenantGroup { key: key.clone(), tenants: 0, named: Vec::new() });
        group.tenants += 1;
        if group.named.len() < named_max {
            group.named.push(tenant.tenant.clone());
        }
    }
    groups.into_values().collect()
}
