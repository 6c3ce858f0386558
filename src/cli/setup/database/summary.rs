//! The output of `cgk setup:database --json`.

use super::{
    super::{identity, lines::NotBoundView},
    Tenants,
};
use crate::cli::{config::show::SettingView, exit::Exit, ui::report::Report};
use cgk::{
    Config,
    config::{Isolation, IsolationModes},
    login::{Admission, SharedTables},
    setup::{self, Hardening, HardeningReport, MeasureState, RegistryGuard, SetupReport},
};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Summary {
    pub(super) event: &'static str,
    pub(super) applied: Vec<String>,
    pub(super) head: Option<String>,
    pub(super) tables: Vec<String>,
    pub(super) public_hardening: &'static str,
    pub(super) registry_guard: &'static str,
    /// Why services are not notified of changes of tenants and credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) changes_not_notified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) new_identity: Option<identity::View>,
    /// Tenants whose schemas this run bound to their organizations.
    pub(super) tenants_bound: Vec<String>,
    /// Tenants whose schemas it could not bind, or that belong to another organization.
    pub(super) tenants_not_bound: Vec<NotBoundView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app_role: Option<AppRoleView>,
    /// `role` or `path`.
    pub(super) isolation: &'static str,
    /// The other isolation that the database accepts while a change is not finished.
    pub(super) isolation_leaving: Option<&'static str>,
    pub(super) tenants_isolated: Vec<String>,
    pub(super) tenants_without_role: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hardening: Option<Vec<MeasureView>>,
    pub(super) settings: Vec<SettingView>,
    /// Why tenants cannot be created yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_ready: Option<Report>,
    pub(super) ms: u64,
    pub(super) exit: Exit,
}

impl Summary {
    /// Returns the summary of a setup. The results of other steps are added to it.
    pub(super) fn of(report: SetupReport, modes: IsolationModes, tenants: Tenants, settings: Vec<SettingView>) -> Self {
        Self {
            event: "summary",
            applied: report.applied.iter().map(ToString::to_string).collect(),
            head: report.head.as_ref().map(ToString::to_string),
            tables: report.tables,
            public_hardening: match report.hardened {
                Hardening::NotNeeded => "not_needed",
                Hardening::Revoked => "revoked",
                Hardening::NotAllowed => "not_allowed",
            },
            registry_guard: match report.registry_guard {
                RegistryGuard::Present => "present",
                RegistryGuard::Made => "made",
                RegistryGuard::NotAllowed => "not_allowed",
                RegistryGuard::NotPossible => "not_possible",
            },
            changes_not_notified: report.changes_not_notified,
            new_identity: None,
            tenants_bound: report.bound.bound.iter().map(ToString::to_string).collect(),
            tenants_not_bound: report.bound.failed.iter().map(NotBoundView::of).collect(),
            app_role: None,
            isolation: modes.mode.as_str(),
            isolation_leaving: modes.leaving.map(Isolation::as_str),
            tenants_isolated: tenants.isolated,
            tenants_without_role: tenants.without_role,
            hardening: None,
            settings,
            not_ready: None,
            ms: 0,
            exit: Exit::Done,
        }
    }
}

#[derive(Serialize)]
pub(super) struct DryRunSummary {
    pub(super) event: &'static str,
    pub(super) hardening: Vec<MeasureView>,
    pub(super) exit: Exit,
}

#[derive(Serialize)]
pub(super) struct MeasureView {
    measure: &'static str,
    /// `in_place`, `applied`, `pending` or `not_allowed`.
    state: &'static str,
    statements: Vec<String>,
}

impl MeasureView {
    pub(super) fn all(report: &HardeningReport) -> Vec<Self> {
        let view = |measure: &setup::MeasureReport| Self {
            measure: Self::name(measure.measure),
            state: match measure.state {
                MeasureState::InPlace => "in_place",
                MeasureState::Applied => "applied",
                MeasureState::Pending => "pending",
                _ => "not_allowed",
            },
            statements: measure.statements.clone(),
        };
        report.measures.iter().map(view).collect()
    }

    pub(super) fn name(measure: setup::Measure) -> &'static str {
        match measure {
            setup::Measure::SetConfig => "set_config",
            setup::Measure::Languages => "languages",
            setup::Measure::Sessions => "sessions",
            _ => "temporary",
        }
    }
}

#[derive(Serialize)]
pub(super) struct AppRoleView {
    name: String,
    created: bool,
    /// The URL with the password. It is only present in the run that set the password.
    url: Option<String>,
    tables: &'static str,
    tenants: usize,
    left_out: Vec<String>,
    direct: usize,
    direct_on_strays: Vec<String>,
    open_to_everyone: Vec<String>,
}

impl AppRoleView {
    pub(super) fn of(admission: &Admission, config: &Config) -> Self {
        let login = admission.name.as_str();
        Self {
            name: login.to_owned(),
            created: admission.created,
            url: admission.password.as_ref().map(|password| config.url_of(login, Some(password.reveal()))),
            tables: match admission.shared_tables {
                SharedTables::Registry => "registry",
                SharedTables::All => "all",
            },
            tenants: admission.tenants,
            left_out: admission.left_out.iter().map(ToString::to_string).collect(),
            direct: admission.direct,
            direct_on_strays: admission.direct_on_strays.clone(),
            open_to_everyone: admission.open_to_everyone.clone(),
        }
    }
}
