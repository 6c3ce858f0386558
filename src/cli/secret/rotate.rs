//! `cgk secret:rotate`

use anyhow::Result;
use cgk::{
    Db,
    secret::{SecretKeys, Secrets},
};
use clap::Args;
use serde::Serialize;

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::style::{BAD, GOOD, paint},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk secret:rotate
  cgk secret:rotate --json

Seals the secrets of the shared tables with the first key of CGK_SECRET_KEYS. To replace a key: put the new one first, in \
             every service too, run this, and then take the old one away. A key is written as its id, a colon and 32 \
             random bytes in base64: `echo 2026:$(head -c 32 /dev/urandom | base64)`; between keys there is a comma.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    key: &'a str,
    resealed: u64,
    current: u64,
    unopened: u64,
    exit: Exit,
}

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
        exit,
    });
    let (resealed, current) = (rotation.resealed, rotation.current);
    printer.output(format!("{} {resealed} with key {key}; {current} had it", paint(GOOD, "sealed")));
    if rotation.unopened > 0 {
        printer.output(format!("{} {}: no key here opens them", paint(BAD, "left"), rotation.unopened));
    }
    Ok(exit)
}
