//! The records of tenants and of the state of their schemas.

use cgk::{
    StrangeRow, TenantStatus,
    lifecycle::{ListedTenant, SchemaContents, SizeSource, TenantAlias},
    migrate::{SchemaState, StartedMigration, TenantState},
};
use serde::Serialize;

use crate::cli::ui::{printer::Printer, style::sanitize, table::CellStyle, time};

/// A row of the registry that is not a valid tenant.
#[derive(Serialize)]
pub(crate) struct StrangeView<'a> {
    id: Option<&'a str>,
    slug: Option<&'a str>,
    status: Option<&'a str>,
    why: &'a str,
}

impl<'a> StrangeView<'a> {
    pub(crate) fn all(rows: &'a [StrangeRow]) -> Vec<Self> {
        let view = |row: &'a StrangeRow| Self {
            id: row.id.as_deref(),
            slug: row.slug.as_deref(),
            status: row.status.as_deref(),
            why: &row.why,
        };
        rows.iter().map(view).collect()
    }
}

/// Prints one warning for each row of the registry that is not a valid tenant.
pub(crate) fn warn_of_strange(printer: &Printer, rows: &[StrangeRow]) {
    for row in rows {
        printer.warn(format!("ignored a row of public.organizations: {}", sanitize(&row.to_string())));
    }
}

/// One tenant of the registry, and the state of its schema.
#[derive(Serialize)]
pub(crate) struct TenantView<'a> {
    pub(super) tenant: &'a str,
    pub(super) id: String,
    pub(super) name: &'a str,
    pub(super) status: &'a str,
    pub(super) schema: String,
    pub(super) head: Option<String>,
    #[serde(flatten)]
    pub(super) state: StateView,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<StartedView>,
    pub(super) created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drop_after: Option<String>,
    #[serde(flatten)]
    pub(super) contents: Option<ContentsView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<AliasView<'a>>,
}

/// A migration without a transaction that is partially applied.
#[derive(Serialize)]
pub(crate) struct StartedView {
    migration: String,
    statements_done: usize,
    statements: Option<usize>,
    next: Option<NextView>,
}

/// The statement with which a run continues.
#[derive(Serialize)]
struct NextView {
    statement: usize,
    line: usize,
    /// Whether it was started and its result was not recorded.
    unclear: bool,
}

impl StartedView {
    pub(crate) fn of(started: &StartedMigration) -> Self {
        let next =
            started.next.map(|next| NextView { statement: next.number, line: next.line, unclear: next.is_unclear });
        let StartedMigration { id, done, statements, .. } = started;
        Self { migration: id.to_string(), statements_done: *done, statements: *statements, next }
    }
}

/// A former slug by which services still find the tenant.
#[derive(Serialize)]
pub(crate) struct AliasView<'a> {
    slug: &'a str,
    expires_at: String,
}

impl<'a> AliasView<'a> {
    pub(crate) fn all(aliases: &'a [TenantAlias]) -> Vec<Self> {
        let view =
            |alias: &'a TenantAlias| Self { slug: alias.slug.as_str(), expires_at: time::rfc3339(alias.expires_at) };
        aliases.iter().map(view).collect()
    }
}

/// The contents of a schema, if they were read.
#[derive(Serialize)]
pub(super) struct ContentsView {
    pub(super) tables: u64,
    pub(super) rows_estimated: u64,
    pub(super) bytes: u64,
    size_source: SizeSource,
}

/// The state of a schema.
#[derive(Serialize)]
pub(crate) struct StateView {
    pub(crate) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

impl StateView {
    pub(crate) fn of(state: &SchemaState) -> Self {
        let (pending, detail) = match state {
            SchemaState::AtHead => (Some(0), None),
            SchemaState::Behind { pending } => (Some(*pending), None),
            SchemaState::Diverged(divergence) => (None, Some(divergence.summary())),
            SchemaState::HalfProvisioned { missing } => (None, Some(missing.to_string())),
            SchemaState::OtherOrganization { found } => (None, Some(belongs_to(found))),
            _ => (None, None),
        };
        Self { state: state.name(), pending, detail }
    }

    /// Returns the text of a tenant's state, and its style.
    pub(crate) fn words_of(state: &SchemaState, started: Option<&StartedMigration>) -> (String, CellStyle) {
        let (words, style) = Self::words(state);
        match started {
            Some(StartedMigration { id, done, statements: Some(statements), .. }) => {
                (format!("{words}; {id} stopped after {done} of {statements} statements"), CellStyle::Bad)
            }
            _ => (words, style),
        }
    }

    /// Returns the text of a state, and its style.
    pub(crate) fn words(state: &SchemaState) -> (String, CellStyle) {
        match state {
            SchemaState::AtHead => ("at head".into(), CellStyle::Good),
            SchemaState::Behind { pending } => (format!("{pending} pending"), CellStyle::Warning),
            SchemaState::Diverged(divergence) => (format!("diverged: {}", divergence.summary()), CellStyle::Bad),
            SchemaState::Missing => ("no schema".into(), CellStyle::Bad),
            SchemaState::HalfProvisioned { missing } => (missing.to_string(), CellStyle::Bad),
            SchemaState::OtherOrganization { found } => (belongs_to(found), CellStyle::Bad),
            SchemaState::BeingDropped => ("being dropped".into(), CellStyle::Bad),
            _ => ("unknown".into(), CellStyle::Warning),
        }
    }
}

impl<'a> TenantView<'a> {
    pub(crate) fn of(tenant: &'a TenantState) -> Self {
        let row = &tenant.tenant;
        Self {
            tenant: row.slug.as_str(),
            id: row.id.to_string(),
            name: &row.name,
            status: row.status.as_str(),
            schema: schema(row),
            head: tenant.head.as_ref().map(ToString::to_string),
            state: StateView::of(&tenant.state),
            started: tenant.started().map(StartedView::of),
            created_at: time::rfc3339(row.created_at),
            drop_after: tenant.drop_after().map(time::rfc3339),
            contents: None,
            aliases: Vec::new(),
        }
    }

    pub(super) fn with_contents(tenant: &'a ListedTenant) -> Self {
        let view = |contents: SchemaContents| ContentsView {
            tables: contents.tables,
            rows_estimated: contents.rows_estimated,
            bytes: contents.bytes,
            size_source: contents.size_source,
        };
        let aliases = AliasView::all(&tenant.aliases);
        Self { contents: tenant.contents.map(view), aliases, ..Self::of(&tenant.state) }
    }
}

fn belongs_to(organization: &str) -> String {
    format!("belongs to organization {}", sanitize(organization))
}

pub(crate) fn schema(tenant: &cgk::Tenant) -> String {
    cgk::ident::SchemaName::of_tenant(&tenant.slug).as_str().to_owned()
}

pub(crate) fn status_style(status: &TenantStatus) -> CellStyle {
    match status {
        TenantStatus::Active => CellStyle::Plain,
        _ => CellStyle::Warning,
    }
}
