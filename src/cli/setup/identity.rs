//! The output of `cgk setup:database --new-identity`.

use cgk::lifecycle::NewIdentity;
use serde::Serialize;

use super::lines::{NotBoundView, ok, warning};
use crate::cli::ui::{
    report::Report,
    style::{count, sanitize},
};

#[derive(Serialize)]
pub(in crate::cli) struct View {
    was_copy: bool,
    logins_dismissed: Vec<String>,
    tenants: usize,
    failed: Vec<NotBoundView>,
}

impl View {
    pub(in crate::cli) fn of(renewed: &NewIdentity) -> Self {
        Self {
            was_copy: renewed.was_copy,
            logins_dismissed: renewed.logins.clone(),
            tenants: renewed.finished.len(),
            failed: renewed.failed.iter().map(NotBoundView::of).collect(),
        }
    }
}

pub(in crate::cli) fn lines(renewed: &NewIdentity) -> Vec<String> {
    let mut lines = vec![ok(match renewed.was_copy {
        true => "this database was a copy; it now has its own identity".into(),
        false => "this database already has its own identity".into(),
    })];
    lines.push(ok(format!(
        "{}: no role or login of another database has rights on their schemas",
        count(renewed.finished.len(), "tenant")
    )));
    for login in &renewed.logins {
        let login = sanitize(login);
        let admit = format!("--app-role {login} admits it to this database");
        lines.push(warning(format!("login {login} lost its rights; {admit}")));
    }
    for (slug, error) in &renewed.failed {
        lines.push(warning(format!("tenant {slug}: {}", sanitize(&Report::of_library(error).short()))));
    }
    lines
}
