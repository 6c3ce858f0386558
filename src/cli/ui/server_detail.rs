//! The server's fields beyond its message: DETAIL, HINT and CONTEXT. They can contain values of rows, so `--no-detail`
//! leaves them out.

use cgk::Error;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};

use super::style::{FAINT, paint, sanitize};

static SHOWN: AtomicBool = AtomicBool::new(true);

/// Sets whether they are shown. Called once, when the command line is read.
pub(crate) fn show(shown: bool) {
    SHOWN.store(shown, Ordering::Relaxed);
}

/// The server's own fields.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ServerDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
}

impl ServerDetail {
    /// `None` if the server sent nothing more, or --no-detail is set.
    pub(crate) fn of(error: &Error) -> Option<Self> {
        let server = error.server().filter(|_| SHOWN.load(Ordering::Relaxed))?;
        let own = |text: Option<&str>| text.map(ToOwned::to_owned);
        let found = Self { detail: own(server.detail()), hint: own(server.hint()), context: own(server.where_()) };
        let is_empty = found.detail.is_none() && found.hint.is_none() && found.context.is_none();
        (!is_empty).then_some(found)
    }

    /// Returns a line for each field. `of` is the tenant, if several tenants have the same error.
    pub(crate) fn lines(&self, of: Option<&str>) -> Vec<String> {
        let of = of.map(|slug| format!(" of {slug}")).unwrap_or_default();
        let fields = [("detail", &self.detail), ("hint", &self.hint), ("context", &self.context)];
        let line = |(name, text): (&str, &Option<String>)| {
            let text = text.as_ref()?;
            Some(format!("{} {}", paint(FAINT, format!("{name}{of}:")), sanitize(text).replace('\n', "\n    ")))
        };
        fields.into_iter().filter_map(line).collect()
    }
}
