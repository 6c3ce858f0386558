//! `cgk migrate:new`

use anyhow::{Context as _, Result, bail};
use cgk::{
    config::MigrationsFrom,
    migrate::{self, Migrations, Set},
};
use clap::Args;
use serde::Serialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        report::{Refusal, display_path},
        style::{COMMAND, GOOD, count, paint},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk migrate:new gift_cards             for every tenant schema
  cgk migrate:new plans --public         for the shared schema
  cgk migrate:new gift_cards --migrations db/migrations
  cgk migrate:new shared_rights --public --from-builtin row_level_security

The first call copies the bundled files to ./migrations and writes cgk.toml. No database is needed.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Name of the migration: a-z, A-Z, 0-9 and _
    name: String,
    /// For the shared schema
    #[arg(long, group = "set")]
    public: bool,
    /// For every tenant schema (default)
    #[arg(long, group = "set")]
    tenant: bool,
    /// Copy a bundled migration that your set does not have; its name without the number
    #[arg(long, value_name = "NAME")]
    from_builtin: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    v: u32,
    file: String,
    set: &'static str,
    bundled_written: usize,
    config: &'static str,
    exit: Exit,
}

/// The folder of the user's own set.
const FOLDER: &str = "migrations";
const CONFIG_FILE: &str = "cgk.toml";
const CONFIG_LINE: &str = "migrations = \"migrations\"";

/// The result for the configuration file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ConfigFile {
    Named,
    Written,
    NeedsLine,
}

pub(crate) fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let set = if arguments.public { Set::Public } else { Set::Tenant };
    let from = MigrationsFrom::load_with(session.globals.overrides()?)?;
    let (directory, bundled) = match from {
        MigrationsFrom::Directory(directory) => (directory, false),
        MigrationsFrom::Bundled => (PathBuf::from(FOLDER), true),
    };
    if bundled && let Some(name) = &arguments.from_builtin {
        let message = format!("cannot add {name:?}: cgk uses its bundled migrations, not a set of your own");
        let hint = "--from-builtin is for your own copy of an older release's files.".to_owned();
        bail!(Refusal { message, hint, exit: Exit::Usage });
    }
    if bundled && let Some(file) = project_above(session) {
        let folder = display_path(file.parent().unwrap_or(&file));
        let message = format!("the project is above this folder: {}", display_path(&file));
        let hint = format!(
            "Run the command in {folder}: cgk reads cgk.toml of the working directory only. For another project in this folder, \
             create an empty cgk.toml here first."
        );
        bail!(Refusal { message, hint, exit: Exit::Usage });
    }
    // The name is checked before the bundled files are written.
    check_name(&directory.join(set.folder()), &arguments.name)?;
    let (mut written, mut config) = (Vec::new(), ConfigFile::Named);
    if bundled {
        written = Migrations::write_bundled(&directory).map_err(|error| {
            let message = format!("could not write the bundled migrations to {FOLDER}/: {error}");
            let hint = "Run the command in a folder that you may write to.".to_owned();
            Refusal { message, hint, exit: Exit::Failed }
        })?;
        config = name_in_config(session)?;
    }
    let file = match &arguments.from_builtin {
        Some(bundled) => migrate::new_file_from_bundled(&directory, set, &arguments.name, bundled)?,
        None => migrate::new_file(&directory, set, &arguments.name)?,
    };

    if !written.is_empty() {
        let files = count(written.len(), "bundled migration");
        printer.info(format!("{} {files} to {FOLDER}/", paint(GOOD, "wrote")));
    }
    match config {
        ConfigFile::Named => {}
        ConfigFile::Written => printer.info(format!("{} {CONFIG_FILE}: {CONFIG_LINE}", paint(GOOD, "wrote"))),
        ConfigFile::NeedsLine => {
            let path = config_path(session);
            printer.warn(format!(
                "add this line at the top of {}, or cgk keeps using its bundled migrations: {CONFIG_LINE}",
                path.display()
            ));
        }
    }
    printer.output(display_path(&file));
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        file: display_path(&file),
        set: set.folder(),
        bundled_written: written.len(),
        config: match config {
            ConfigFile::Named => "unchanged",
            ConfigFile::Written => "written",
            ConfigFile::NeedsLine => "needs_line",
        },
        exit: Exit::Done,
    });
    let next = paint(COMMAND, "cgk migrate --plan");
    printer.info(match arguments.from_builtin {
        Some(_) => format!("Next: {next}"),
        None => format!("The file is empty: add SQL, then run {next}"),
    });
    Ok(Exit::Done)
}

fn check_name(folder: &Path, name: &str) -> Result<()> {
    if !migrate::is_name(name) {
        let message = format!("{name:?} cannot be the name of a migration");
        let hint = "Use only a-z, A-Z, 0-9 and _: cgk migrate:new gift_cards".to_owned();
        bail!(Refusal { message, hint, exit: Exit::Usage });
    }
    if let Some(file) = of_the_same_name(folder, name) {
        let message = format!("{} has this name already; no other file was made", display_path(&file));
        let hint = "Edit that file if it is not applied yet; otherwise choose another name.".to_owned();
        bail!(Refusal { message, hint, exit: Exit::Usage });
    }
    Ok(())
}

/// Returns the file of a set that has this name, with any version. The next file would be a second migration of that
/// name.
fn of_the_same_name(folder: &Path, name: &str) -> Option<PathBuf> {
    let end = format!("_{name}.sql");
    let paths = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    paths.into_iter().find(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.strip_suffix(&end).is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Writes a configuration file that names the folder. An existing file is not changed, because the user edits it.
fn name_in_config(session: &Session<'_>) -> Result<ConfigFile> {
    if session.globals.config_file().is_some() {
        return Ok(ConfigFile::NeedsLine);
    }
    let written = fs::File::create_new(CONFIG_FILE)
        .and_then(|mut file| io::Write::write_all(&mut file, format!("{CONFIG_LINE}\n").as_bytes()));
    match written {
        Ok(()) => Ok(ConfigFile::Written),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(ConfigFile::NeedsLine),
        Err(error) => Err(error).context(format!("could not write {CONFIG_FILE}")),
    }
}

/// Returns the configuration file of a folder above, if the working directory has none and none was named.
fn project_above(session: &Session<'_>) -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    if session.globals.config_file().is_some() || here.join(CONFIG_FILE).exists() {
        return None;
    }
    here.ancestors().skip(1).map(|folder| folder.join(CONFIG_FILE)).find(|file| file.is_file())
}

fn config_path<'a>(session: &'a Session<'_>) -> &'a Path {
    session.globals.config_file().map_or(Path::new(CONFIG_FILE), PathBuf::as_path)
}
