//! `cgk secret:rotate`

use anyhow::Result;
use cgk::{
    Db,
    secret::{SecretKeys, Secrets, UnopenedSecret},
};
use clap::Args;
use serde::Serialize;

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::style::{BAD, GOOD, paint, sanitize},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk secret:rotate
  cgk secret:rotate --json

Seals the secrets of the shared tables with the first key of CGK_SECRET_KEYS. To replace a key: put the new one first, in \
             every service too, run this, and then take the old one away. A key is written as its id, a colon and 32 \
             random bytes in base64: `echo 2026:$(head -c 32 /dev/urandom | base64)`; between keys there is a comma. \
             What no key opens stays as it is: the answer says where it is, and the exit code is 4.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    key: &'a str,
    resealed: u64,
    current: u64,
    unopened: u64,
    left: Vec<LeftView<'a>>,
    exit: Exit,
}

/// A secret that was not opened, as JSON.
#[derive(Serialize)]
struct LeftView<'a> {
    column: &'static str,
    row: String,
    key: Option<&'a str>,
}

/// The maximum number of lines about secrets that were not opened.
const LEFT_SHOWN: usize = 20;

pub(crate) async fn run(session: &Session<'_>, _: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let config = session.config()?;
    let keys = SecretKeys::of(&config)?;
    let key = keys.current().to_owned();
    let db = Db::connect(&config).await?;
    let rotation = Secrets::new(&db, keys).acting_as(session.actor(&db)).rotate().await?;
    let exit = if rotation.unopened == 0 { Exit::Done } else { Exit::Partial };
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        key: &key,
        resealed: rotation.resealed,
        current: rotation.current,
        unopened: rotation.unopened,
        left: rotation.left.iter().map(LeftView::of).collect(),
        exit,
    });
    let (resealed, current) = (rotation.resealed, rotation.current);
    printer.sentence(format!("{} {resealed} with key {key}; {current} had it", paint(GOOD, "sealed")));
    if rotation.unopened > 0 {
        printer.sentence(format!("{} {}: no key here opens them", paint(BAD, "left"), rotation.unopened));
        for one in rotation.left.iter().take(LEFT_SHOWN) {
            let key = match &one.key {
                Some(id) => format!("sealed with a key {}", sanitize(id)),
                None => "not sealed by cgk".to_owned(),
            };
            printer.sentence(format!("  {} of row {}: {key}", one.column, one.row));
        }
        let shown = rotation.left.len().min(LEFT_SHOWN) as u64;
        if rotation.unopened > shown {
            printer.sentence(format!("  and {} more; --json lists a thousand", rotation.unopened - shown));
        }
        printer.info("Add the keys that sealed them to CGK_SECRET_KEYS and run this again, or set these secrets anew.");
    }
    Ok(exit)
}

impl<'a> LeftView<'a> {
    fn of(one: &'a UnopenedSecret) -> Self {
        Self { column: one.column, row: one.row.to_string(), key: one.key.as_deref() }
    }
}
