//! `cgk init`

use anyhow::{Context as _, Result};
use cgk::{
    config::MigrationsFrom,
    migrate::Set,
    templates::{self, InitMode, InitOptions, InitPlan, PlannedFile, PlannedTemplate, Template},
};
use clap::Args;
use serde::Serialize;
use std::{
    env,
    path::{Path, PathBuf},
};

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        report::display_path,
        style::{COMMAND, GOOD, count, paint, sanitize},
        table::{CellStyle, Grid},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk init --list                                  which templates there are
  cgk init                                         no tables yet: the template empty
  cgk init --template shop                         in this folder
  cgk init app --template workspace --template analytics
  cgk init --upgrade                               add what this version of cgk brings

Writes cgk.toml, migrations, .env.example, .gitignore, a workflow for GitHub Actions, examples and tests. Existing files stay \
             as they are. In a project with migrations, new files get the next numbers. No database is needed.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Folder of the project [default: the current folder]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Template to add; repeat it for several
    #[arg(long = "template", value_name = "NAME")]
    templates: Vec<String>,
    /// Add the migrations that a newer cgk has, for these templates or all of the project
    #[arg(long)]
    upgrade: bool,
    /// List the templates
    #[arg(long, conflicts_with_all = ["folder", "templates", "upgrade"])]
    list: bool,
}

#[derive(Serialize)]
struct Listing<'a> {
    v: u32,
    templates: Vec<TemplateView<'a>>,
    exit: Exit,
}

#[derive(Serialize)]
struct TemplateView<'a> {
    name: &'a str,
    version: u32,
    description: &'a str,
    public: usize,
    tenant: usize,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    folder: String,
    migrations: String,
    templates: Vec<PlannedView<'a>>,
    written: Vec<String>,
    extended: Vec<String>,
    kept: Vec<String>,
    config: &'static str,
    gitignore: &'static str,
    exit: Exit,
}

#[derive(Serialize)]
struct PlannedView<'a> {
    name: &'a str,
    from: Option<u32>,
    to: u32,
    migrations: usize,
}

/// The folder of a project, and whether its configuration names the folder of its migrations.
struct Place {
    root: PathBuf,
    migrations: PathBuf,
    config: ConfigFile,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ConfigFile {
    Written,
    Unchanged,
    NeedsLine,
}

impl ConfigFile {
    fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Unchanged => "unchanged",
            Self::NeedsLine => "needs_line",
        }
    }
}

/// The default folder of migrations.
const FOLDER: &str = "migrations";
const CONFIG_FILE: &str = "cgk.toml";
const GITIGNORE: &str = ".gitignore";

pub(crate) fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    if arguments.list {
        return Ok(list(session));
    }
    let place = Place::find(session, arguments.folder.as_deref())?;
    let mut options = InitOptions::default();
    options.templates.clone_from(&arguments.templates);
    options.mode = if arguments.upgrade { InitMode::Upgrade } else { InitMode::Add };
    let plan = templates::plan(&place.root, &place.migrations, &options)?;
    plan.write()?;
    tell(session, &place, &plan);
    Ok(Exit::Done)
}

impl Place {
    fn find(session: &Session<'_>, folder: Option<&Path>) -> Result<Self> {
        let here = env::current_dir().context("could not find the current folder")?;
        let root: PathBuf = here.join(folder.unwrap_or(Path::new(""))).components().collect();
        let own = root.join(CONFIG_FILE);
        let mut overrides = session.globals.overrides()?;
        let has_config = overrides.config_file.is_some() || is_there(&own);
        let flag = overrides.migrations.clone().map(|path| here.join(path));
        // The configuration of another folder does not apply to this one.
        let from = if has_config || root == here {
            overrides.config_file.get_or_insert_with(|| own.clone());
            if !has_config {
                overrides.config_file = None;
            }
            MigrationsFrom::load_with(overrides)?
        } else {
            flag.map_or(MigrationsFrom::Bundled, MigrationsFrom::Directory)
        };
        let (migrations, is_named) = match from {
            MigrationsFrom::Directory(migrations) => (migrations, true),
            MigrationsFrom::Bundled => (root.join(FOLDER), false),
        };
        // A link that leads nowhere would be kept, and name no folder.
        let config = match (is_there(&own), is_named) {
            (false, _) => ConfigFile::Written,
            (true, true) => ConfigFile::Unchanged,
            (true, false) => ConfigFile::NeedsLine,
        };
        Ok(Self { root, migrations, config })
    }
}

/// Returns whether something has this name, also if it is a link that leads nowhere.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Returns a path as a word of a shell's command.
fn shell_word(path: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%,:".contains(c);
    match !path.is_empty() && path.chars().all(is_plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

fn list(session: &Session<'_>) -> Exit {
    let printer = session.printer;
    let all = templates::all();
    printer.record(&Listing {
        v: crate::cli::JSON_VERSION,
        templates: all.iter().map(TemplateView::of).collect(),
        exit: Exit::Done,
    });
    let mut grid = Grid::new(&["TEMPLATE", "VERSION", "DESCRIPTION"]);
    for template in &all {
        let version = template.version().to_string();
        grid.row([
            (template.name(), CellStyle::Plain),
            (version.as_str(), CellStyle::Faint),
            (template.description(), CellStyle::Plain),
        ]);
    }
    printer.output(grid);
    Exit::Done
}

impl<'a> TemplateView<'a> {
    fn of(template: &'a Template) -> Self {
        Self {
            name: template.name(),
            version: template.version(),
            description: template.description(),
            public: template.migrations(Set::Public),
            tenant: template.migrations(Set::Tenant),
        }
    }
}

fn tell(session: &Session<'_>, place: &Place, plan: &InitPlan) {
    let printer = session.printer;
    let paths = |extended: bool| -> Vec<String> {
        let of_kind = plan.files().iter().filter(|file| file.is_extended() == extended);
        of_kind.map(|file| display_path(PlannedFile::path(file))).collect()
    };
    let (written, extended) = (paths(false), paths(true));
    let kept: Vec<String> = plan.kept().iter().map(|path| display_path(path)).collect();
    for path in &written {
        printer.output(path);
    }
    for path in &kept {
        printer.info(format!("kept {path}: it is there already"));
    }
    for path in &extended {
        printer.info(format!("extended {path}"));
    }
    let new: usize = plan.templates().iter().map(|template| template.migrations).sum();
    if plan.files().is_empty() {
        printer.info("Nothing to add.");
    } else if !written.is_empty() {
        let migrations = count(new, "migration");
        let among = if new == 0 { format!("{migrations} among them") } else { format!("{migrations} among them:") };
        printer.info(format!("{} {}, {among}", paint(GOOD, "wrote"), count(written.len(), "file")));
        for template in plan.templates().iter().filter(|template| template.migrations > 0) {
            printer.info(format!("  {}", described(template)));
        }
    }
    lines_to_add(session, place, plan);
    next_steps(session, place, new > 0);
    let gitignore = match plan.files().iter().any(|file| file.path() == place.root.join(GITIGNORE)) {
        true => "written",
        false if plan.gitignore_lacks_env() => "needs_line",
        false => "unchanged",
    };
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        folder: display_path(&place.root),
        migrations: display_path(&place.migrations),
        templates: plan.templates().iter().map(PlannedView::of).collect(),
        written,
        extended,
        kept,
        config: place.config.as_str(),
        gitignore,
        exit: Exit::Done,
    });
}

/// Prints the lines that the user must add to other files.
fn lines_to_add(session: &Session<'_>, place: &Place, plan: &InitPlan) {
    let printer = session.printer;
    let line = |file: &str, line: &str| {
        let path = display_path(&place.root.join(file));
        printer.info(format!("  Add this line at the top of {path}: {}", paint(COMMAND, line)));
    };
    if place.config == ConfigFile::NeedsLine {
        let folder = place.migrations.strip_prefix(&place.root).unwrap_or(&place.migrations);
        printer.warn(format!("{CONFIG_FILE} does not name the migrations: cgk uses its bundled ones"));
        line(CONFIG_FILE, &format!("migrations = \"{}\"", sanitize(&folder.display().to_string())));
    }
    if plan.gitignore_lacks_env() && place.config != ConfigFile::Unchanged {
        printer.warn(format!("{GITIGNORE} does not name .env, which holds a password"));
        line(GITIGNORE, ".env");
    }
}

impl<'a> PlannedView<'a> {
    fn of(template: &'a PlannedTemplate) -> Self {
        Self { name: &template.name, from: template.from, to: template.to, migrations: template.migrations }
    }
}

/// Returns a text such as `workspace: 3 migrations`.
fn described(template: &PlannedTemplate) -> String {
    let name = match template.name.as_str() {
        "platform" => "shared tables of cgk",
        name => name,
    };
    format!("{name}: {}", count(template.migrations, "migration"))
}

/// Prints the next steps: all of them in a new project, and only the look at the plan in an existing one.
fn next_steps(session: &Session<'_>, place: &Place, has_migrations: bool) {
    let printer = session.printer;
    let command = |text: &str| paint(COMMAND, text).to_string();
    if place.config == ConfigFile::Written {
        let folder = display_path(&place.root);
        let here = env::current_dir().is_ok_and(|here| here == place.root);
        printer.info("Next:");
        if !here {
            printer.info(format!("  {}", command(&format!("cd {}", shell_word(&folder)))));
        }
        printer.info(format!("  {}    and write your DATABASE_URL into it", command("cp .env.example .env")));
        printer.info(format!("  {}", command("cgk setup:database")));
        printer.info(format!("  {}", command("cgk tenant:create acme")));
        printer.info("  Set CGK_REPOSITORY in .github/workflows/cgk.yml to the URL of cgk.");
        let read = display_path(&place.migrations.join("templates"));
        printer.info(format!("  Read {read}/*.md: tables, examples and tests."));
    } else if has_migrations {
        printer.info(format!("Next: {}", command("cgk migrate --plan")));
    }
}
