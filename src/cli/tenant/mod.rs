//! The commands about tenants.

pub(in crate::cli) mod activate;
pub(in crate::cli) mod clone;
pub(super) mod confirm;
pub(in crate::cli) mod create;
pub(in crate::cli) mod create_many;
pub(in crate::cli) mod drop;
mod drop_later;
pub(in crate::cli) mod exec;
pub(in crate::cli) mod export;
pub(in crate::cli) mod import;
pub(in crate::cli) mod list;
mod list_csv;
mod pace;
pub(in crate::cli) mod rename;
pub(in crate::cli) mod seed;
pub(in crate::cli) mod shell;
pub(in crate::cli) mod show;
pub(in crate::cli) mod slugs;
pub(in crate::cli) mod suspend;
pub(in crate::cli) mod undrop;
pub(in crate::cli) mod verify;
pub(in crate::cli) mod view;
pub(in crate::cli) mod warm;

use serde::Serialize;

/// A session in a tenant.
#[derive(Serialize)]
struct SessionView<'a> {
    pid: Option<i32>,
    login: &'a str,
    application: &'a str,
    state: &'a str,
    ms: Option<u64>,
}

impl<'a> SessionView<'a> {
    fn all(sessions: &'a [cgk::lifecycle::EnteredSession]) -> Vec<Self> {
        let view = |session: &'a cgk::lifecycle::EnteredSession| Self {
            pid: session.pid,
            login: &session.login,
            application: &session.application,
            state: &session.state,
            ms: session.age.map(super::ui::time::milliseconds),
        };
        sessions.iter().map(view).collect()
    }
}
