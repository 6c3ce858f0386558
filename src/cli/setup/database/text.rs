//! The text output of `cgk setup:database`.

use super::super::lines::{names, ok, on_strays, warning};
use crate::cli::{
    config::show::SettingView,
    session,
    ui::{
        report::Report,
        style::{FAINT, count, sanitize},
        table, time,
    },
};
use cgk::{
    Config, Operator,
    config::Isolation,
    login::{Admission, DirectRights, SharedTables},
    migrate::{MigrationId, Migrations},
    setup::{Hardening, RegistryGuard, SetupReport},
};
use std::time::Instant;

/// Returns the settings that are not the default, and those that are always shown.
pub(super) fn configuration(settings: &[SettingView], everything: bool) -> String {
    const ALWAYS: [&str; 3] = ["database_url", "isolation", "migrations"];
    let rows: Vec<(String, String)> = settings
        .iter()
        .filter(|setting| everything || ALWAYS.contains(&setting.name) || !setting.is_default())
        .filter(|setting| everything || setting.value.is_some())
        .map(|setting| {
            let value = setting.value.as_deref().unwrap_or("none");
            (setting.name.to_owned(), format!("{value}  ({})", setting.origin))
        })
        .collect();
    table::facts(FAINT, &rows)
}

pub(super) fn connection(operator: &Operator) -> Vec<String> {
    let facts = operator.facts();
    let rights = [
        (facts.creates_schemas, "schemas"),
        (facts.creates_in_public == Some(true), "tables in public"),
        (facts.creates_roles, "roles"),
    ];
    let wanted = |what: &str| what != "roles" || operator.config().isolation() == Isolation::Role;
    let may: Vec<_> = rights.iter().filter(|(may, _)| *may).map(|(_, what)| *what).collect();
    let may_not: Vec<_> = rights.iter().filter(|(may, what)| !*may && wanted(what)).map(|(_, what)| *what).collect();
    let mut lines = vec![
        ok(format!("connected to {} as {}", session::place(operator), sanitize(&facts.role))),
        ok(format!("PostgreSQL {} (supported: 14 and newer)", session::short_version(&facts.version))),
        ok(format!("encryption: {}", session::encryption(operator))),
    ];
    if !may.is_empty() {
        lines.push(ok(format!("role {} may create {}", sanitize(&facts.role), may.join(", "))));
    }
    if !may_not.is_empty() {
        lines.push(warning(format!("role {} may not create {}", sanitize(&facts.role), may_not.join(", "))));
    }
    lines
}

pub(super) fn shared_schema(report: &SetupReport, migrations: &Migrations, began: Instant) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(match report.applied.as_slice() {
        [] => ok("nothing to apply".into()),
        applied => ok(format!(
            "{} applied in {}: {}",
            count(applied.len(), "migration"),
            time::elapsed(began.elapsed()),
            span(applied)
        )),
    });
    match &report.head {
        Some(head) => lines.push(ok(format!("at {head}, the newest of {migrations}"))),
        None => lines.push(ok(format!("no migrations in {migrations}"))),
    }
    lines.push(ok(format!("tables: {}", report.tables.join(", "))));
    match report.hardened {
        Hardening::NotNeeded => {}
        Hardening::Revoked => lines.push(ok("revoked the right of every role to create tables in public".into())),
        Hardening::NotAllowed => lines.push(warning(
            "every role may create in public, so cgk makes, migrates and enters no tenant (CGK0304); let its owner run: revoke \
             create on schema public from public;"
                .into(),
        )),
    }
    match report.registry_guard {
        RegistryGuard::Present | RegistryGuard::Made => {}
        RegistryGuard::NotAllowed => lines.push(warning(
            "organizations with a schema can be deleted from the registry: run this command as the owner of \
             public.organizations, with usage on plpgsql"
                .into(),
        )),
        RegistryGuard::NotPossible => lines.push(warning(
            "organizations with a schema can be deleted from the registry, because public.organizations is a view"
                .into(),
        )),
    }
    if let Some(why) = &report.changes_not_notified {
        lines.push(warning(format!(
            "services are not notified of revoked credentials and suspended tenants, and see them a few seconds later: {}; \
             docs/service.md says how to add the migration",
            sanitize(why)
        )));
    }
    if !report.bound.bound.is_empty() {
        let bound = count(report.bound.bound.len(), "schema");
        lines.push(ok(format!("stored the organization's id on {bound}")));
    }
    for (slug, error) in &report.bound.failed {
        lines.push(warning(format!("tenant {slug}: {}", sanitize(&Report::of_library(error).short()))));
    }
    lines
}

pub(super) fn login_lines(admission: &Admission, config: &Config, rights: DirectRights) -> Vec<String> {
    let name = &admission.name;
    let mut lines = vec![
        ok(match admission.created {
            true => format!("created role {name} (can log in, cannot create objects)"),
            false => format!("role {name} exists; it cannot create objects"),
        }),
        ok(match admission.shared_tables {
            SharedTables::Registry => "it can read id, slug and status of organizations".into(),
            SharedTables::All => "it can read and write the shared tables, outside of tenants".into(),
        }),
        ok(format!("it can enter {} and every tenant created later", count(admission.tenants, "tenant"))),
    ];
    if !admission.left_out.is_empty() {
        let what = match (&admission.failure, config.isolation()) {
            (Some(_), _) => "fix the error below and run this again",
            (None, Isolation::Role) => "run cgk setup:database --isolate-tenants, or cgk tenant:create SLUG",
            (None, Isolation::Path) => "cgk tenant:create SLUG creates what is missing",
        };
        lines.push(warning(format!("{} cannot be entered yet: {what}", count(admission.left_out.len(), "tenant"))));
    }
    lines.extend(direct_lines(admission, config.isolation(), rights));
    match &admission.password {
        Some(password) => lines.push(format!(
            "\nThe URL for services. It is shown only once:\nDATABASE_URL={}",
            config.url_of(name.as_str(), Some(password.reveal()))
        )),
        None => lines.push(ok(format!("its password did not change; --app-role {name} --new-password sets a new one"))),
    }
    lines
}

/// Returns what the login may do in the schemas of tenants without the tenants' roles.
fn direct_lines(admission: &Admission, isolation: Isolation, rights: DirectRights) -> Vec<String> {
    let schemas = count(admission.direct, "schema");
    let mut lines = match (isolation, rights, admission.direct) {
        (Isolation::Path, DirectRights::Keep, _) | (Isolation::Role, DirectRights::Keep, 0) => Vec::new(),
        (Isolation::Path, DirectRights::Revoke, _) => {
            vec![warning("path isolation needs its direct rights, so --revoke-direct revoked nothing".into())]
        }
        (Isolation::Role, DirectRights::Revoke, 0) => {
            vec![ok("it has no direct rights on the schemas of tenants".into())]
        }
        (Isolation::Role, DirectRights::Revoke, _) => vec![warning(format!(
            "it keeps direct rights on {schemas}: they are revoked where it may act as the tenant's role"
        ))],
        (Isolation::Role, DirectRights::Keep, _) => vec![warning(format!(
            "it still has direct rights on {schemas} from path isolation; when every service uses role isolation, add \
             --revoke-direct"
        ))],
    };
    if !admission.direct_on_strays.is_empty() {
        lines.push(warning(on_strays(&admission.direct_on_strays)));
    }
    if let Some(first) = admission.open_to_everyone.first() {
        lines.push(warning(format!(
            "every role has rights on {}, because PUBLIC has: {}; --revoke-direct does not revoke them: revoke all on \
             schema {} from public",
            count(admission.open_to_everyone.len(), "schema"),
            names(&admission.open_to_everyone),
            sanitize(first)
        )));
    }
    lines
}

/// Returns a text such as `001_organizations … 010_change_notices`.
pub(crate) fn span(ids: &[MigrationId]) -> String {
    match ids {
        [] => String::new(),
        [only] => only.to_string(),
        [first, second] => format!("{first}, {second}"),
        [first, .., last] => format!("{first} … {last}"),
    }
}
