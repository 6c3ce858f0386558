//! Asks for a confirmation: the user must repeat the name of what will be lost.

use anyhow::{Context as _, Result};
use cgk::TenantSlug;
use std::{
    io::{self, IsTerminal as _},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::cli::{
    exit::Exit,
    ui::{printer::Printer, report::Refusal},
};

/// Set while the question is open. A signal then ends the command before it has changed anything.
static ASKS: AtomicBool = AtomicBool::new(false);

pub(crate) fn asks() -> bool {
    ASKS.load(Ordering::Relaxed)
}

/// Refuses unless the tenant is named a second time: by the flag, or by input on the terminal.
pub(super) async fn confirm(printer: &Printer, slug: &TenantSlug, flag: Option<&str>) -> Result<()> {
    let named = match flag {
        Some(named) => named.to_owned(),
        None if io::stdin().is_terminal() && !printer.is_json() => ask(printer, slug).await?,
        None => {
            let message = "standard input is not a terminal, so the slug cannot be typed";
            return Err(refused(message.into(), format!("Add --confirm {slug}. Nothing was changed.")));
        }
    };
    if named.trim() == slug.as_str() {
        return Ok(());
    }
    Err(refused(format!("the name given is not {slug}"), "Nothing was changed.".into()))
}

fn refused(message: String, hint: String) -> anyhow::Error {
    Refusal { message, hint, exit: Exit::Usage }.into()
}

/// Asks on the terminal. A signal does not stop the thread that reads.
async fn ask(printer: &Printer, slug: &TenantSlug) -> Result<String> {
    let doing = "could not read from the terminal";
    ASKS.store(true, Ordering::Relaxed);
    printer.prompt(&format!("Type {slug} to drop the tenant: "));
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    let typed = read.await.context(doing)?.context(doing);
    ASKS.store(false, Ordering::Relaxed);
    typed
}
