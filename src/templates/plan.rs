//! Plans the files to write into a project's folder. Making the plan only reads. The plan is then written or shown.

use super::{
    catalog::{self, Template, TemplateFile},
    error::TemplateError,
    extras,
    planned::{InitPlan, PlannedFile, PlannedTemplate},
    record::{self, Record},
};
use crate::{
    migrate::{
        Checksum, Migrations,
        lint::{self, ACCEPTED_FILE},
    },
    migration::{MigrationId, Set},
    version::Version,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// Whether templates are added to a project, or its templates are upgraded to a newer version of cgk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitMode {
    /// Adds the named templates. Without a name, adds `empty` to a folder that has no template.
    #[default]
    Add,
    /// Adds the new files of the named templates. Without a name: of all templates that the project has.
    Upgrade,
}

/// The options of [`plan`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct InitOptions {
    /// The names of the templates, in the order in which their files are numbered.
    pub templates: Vec<String>,
    /// Whether the templates are added or upgraded.
    pub mode: InitMode,
}

/// Reads a project's folder, which may be missing, and returns the files to write into it. `migrations` is the folder
/// of the two sets. Writes nothing.
///
/// ```
/// use cgk::templates::{self, InitOptions};
///
/// let folder = std::env::temp_dir().join(format!("cgk-init-{}", std::process::id()));
/// let mut options = InitOptions::default();
/// options.templates.push("workspace".into());
/// let plan = templates::plan(&folder, &folder.join("migrations"), &options)?;
/// assert!(plan.files().iter().any(|file| file.path().ends_with("migrations/tenant/001_projects.sql")));
/// assert!(!folder.exists());
/// plan.write()?;
/// assert!(folder.join("cgk.toml").exists());
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), cgk::templates::TemplateError>(())
/// ```
///
/// # Errors
///
/// Every [`TemplateError`] except [`TemplateError::Write`]: a name that is not a template, a file that blocks a path,
/// and migrations that are invalid together with those of the template.
pub fn plan(root: &Path, migrations: &Path, options: &InitOptions) -> Result<InitPlan, TemplateError> {
    let named = options
        .templates
        .iter()
        .map(|name| catalog::find(name).ok_or_else(|| TemplateError::Unknown { name: name.clone() }));
    let mut named = named.collect::<Result<Vec<_>, _>>()?;
    let mut seen = BTreeSet::new();
    named.retain(|template| seen.insert(template.name().to_owned()));

    let project = Project::read(migrations)?;
    let wanted = project.wanted(named, options.mode)?;
    let mut planning = Planning::of(&project);
    for template in std::iter::once(&catalog::platform()).chain(&wanted) {
        planning.add(template, options.mode)?;
    }
    planning.check()?;
    let mut plan = planning.into_plan();
    let are_named = options.mode == InitMode::Add && !options.templates.is_empty();
    extras::plan(root, migrations, &wanted, are_named, &mut plan)?;
    plan.close(&project.folder.join(record::FILE));
    plan.refuse_what_is_in_the_way(root)?;
    Ok(plan)
}

/// The migrations of a folder.
struct Project {
    folder: PathBuf,
    migrations: Migrations,
    record: Record,
    /// The text of the record, if it exists.
    record_text: Option<String>,
    accepted_text: Option<String>,
}

impl Project {
    fn read(folder: &Path) -> Result<Self, TemplateError> {
        let path = folder.join(record::FILE);
        let project = Self {
            folder: folder.to_owned(),
            migrations: Migrations::from_unfinished_directory(folder)?,
            record: Record::read(&path)?,
            record_text: read_if_there(&path)?,
            accepted_text: read_if_there(&folder.join(ACCEPTED_FILE))?,
        };
        let public = project.migrations.set(Set::Public).files();
        let platform = catalog::platform();
        let is_ours = |file: &TemplateFile| public.iter().any(|own| own.id().name == file.name);
        if !public.is_empty() && !platform.files().iter().any(is_ours) {
            return Err(TemplateError::ForeignPublicSet { folder: folder.join(Set::Public.folder()) });
        }
        Ok(project)
    }

    fn is_new(&self) -> bool {
        [Set::Public, Set::Tenant].into_iter().all(|set| self.migrations.set(set).files().is_empty())
    }

    /// Returns whether the project has the template: it is recorded, or a file has the text of one of its files.
    fn has(&self, template: &Template) -> bool {
        let text = |file: &TemplateFile| {
            let checksum = Checksum::of(file.sql);
            self.migrations.set(file.set).files().iter().any(|own| *own.checksum() == checksum)
        };
        self.record.has(template.name()) || template.files().iter().any(text)
    }

    /// Returns the templates whose files are planned.
    fn wanted(&self, named: Vec<Template>, mode: InitMode) -> Result<Vec<Template>, TemplateError> {
        let own = || catalog::all().into_iter().filter(|template| self.has(template)).collect::<Vec<_>>();
        match mode {
            InitMode::Upgrade if self.is_new() => Err(TemplateError::NoProject { folder: self.folder.clone() }),
            InitMode::Upgrade if named.is_empty() => Ok(own()),
            InitMode::Upgrade => match named.iter().find(|template| !self.has(template)) {
                Some(other) => Err(TemplateError::NotInProject { name: other.name().to_owned() }),
                None => Ok(named),
            },
            InitMode::Add if named.is_empty() && self.is_new() => Ok(catalog::find("empty").into_iter().collect()),
            // Completes what an interrupted run has started.
            InitMode::Add if named.is_empty() => Ok(own()),
            InitMode::Add => Ok(named),
        }
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>, TemplateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TemplateError::Read { path: path.to_owned(), source }),
    }
}

/// A plan under construction.
struct Planning<'a> {
    project: &'a Project,
    record: Record,
    /// The newest version of each set.
    newest: BTreeMap<Set, i64>,
    migrations: Vec<NewMigration>,
    accepted: Vec<String>,
    templates: Vec<PlannedTemplate>,
}

struct NewMigration {
    set: Set,
    template: String,
    /// `008_projects.sql`
    file: String,
    sql: &'static str,
}

impl<'a> Planning<'a> {
    fn of(project: &'a Project) -> Self {
        let newest = |set: Set| project.migrations.set(set).head().map_or(0, |head| head.version.get());
        Self {
            project,
            record: project.record.clone(),
            newest: [Set::Public, Set::Tenant].into_iter().map(|set| (set, newest(set))).collect(),
            migrations: Vec::new(),
            accepted: Vec::new(),
            templates: Vec::new(),
        }
    }

    /// Plans the files of a template that the project has not received yet.
    fn add(&mut self, template: &Template, mode: InitMode) -> Result<(), TemplateError> {
        let name = template.name();
        let had = self.project.has(template);
        let recorded = self.project.record.version(name);
        // Only an upgrade adds files to a completely installed template. The shared tables are always completed,
        // because templates depend on them.
        let is_complete = recorded.is_some() && mode == InitMode::Add && !catalog::is_platform(template);
        let before = self.migrations.len();
        for file in template.files() {
            if is_complete || self.record.has_file(name, file) {
                continue;
            }
            match self.standing(file, had, name)? {
                // The run that wrote the file may have been killed before it wrote the accepted warnings of the file.
                Standing::SameText(id) => self.accept(file, &id),
                Standing::There => {}
                Standing::New => self.number(file, name)?,
            }
            self.record.add_file(name, file);
        }
        let to = if is_complete { recorded.unwrap_or_default() } else { template.version() };
        self.record.add(name, to);
        let to = self.record.version(name).unwrap_or(to);
        let migrations = self.migrations.len() - before;
        self.templates.push(PlannedTemplate { name: name.to_owned(), from: recorded, to, migrations });
        Ok(())
    }

    /// Returns whether a template's file exists under any number: by its text, or by its name if the project has the
    /// template.
    fn standing(&self, file: &TemplateFile, had: bool, template: &str) -> Result<Standing, TemplateError> {
        let checksum = Checksum::of(file.sql);
        let own = self.project.migrations.set(file.set).files();
        if let Some(own) = own.iter().find(|own| *own.checksum() == checksum) {
            return Ok(Standing::SameText(own.id().clone()));
        }
        match own.iter().find(|own| own.id().name == file.name) {
            None => Ok(Standing::New),
            Some(_) if had => Ok(Standing::There),
            Some(own) => Err(TemplateError::NameTaken { file: own.path().to_owned(), template: template.to_owned() }),
        }
    }

    /// Assigns the next number after the newest file of the set, or the bundled number if that is higher.
    fn number(&mut self, file: &TemplateFile, template: &str) -> Result<(), TemplateError> {
        let newest = self.newest.entry(file.set).or_default();
        let next = newest.checked_add(1).map(|next| next.max(file.number)).and_then(Version::new);
        let version = next.ok_or(TemplateError::NoVersionLeft { version: *newest })?;
        *newest = version.get();
        let id = MigrationId { version, name: file.name.to_owned() };
        self.accept(file, &id);
        let (set, template) = (file.set, template.to_owned());
        self.migrations.push(NewMigration { set, template, file: format!("{id}.sql"), sql: file.sql });
        Ok(())
    }

    /// Adds the lines of `accepted.txt` about a file, except those that are already there.
    fn accept(&mut self, file: &TemplateFile, id: &MigrationId) {
        if !file.is_bundled {
            return;
        }
        let bundled = format!("{}/{:03}_{}.sql", file.set, file.number, file.name);
        let name = format!("{}/{id}.sql", file.set);
        let own = self.project.accepted_text.as_deref().unwrap_or_default();
        let start = |line: &str| line.split_whitespace().take(2).map(ToOwned::to_owned).collect::<Vec<_>>();
        let there: BTreeSet<Vec<String>> = own.lines().map(start).collect();
        let lines = catalog::accepted_of(&bundled).map(|rest| format!("{name}  {rest}\n"));
        self.accepted.extend(lines.filter(|line| !there.contains(&start(line))));
    }

    /// Returns an error if the new files are invalid together with the project's own files.
    fn check(&self) -> Result<(), TemplateError> {
        for new in &self.migrations {
            self.refuse_taken_relations(new)?;
        }
        let files = self.migrations.iter().map(|new| (new.set, new.file.as_str(), new.sql));
        let accepted = self.accepted_text().unwrap_or_default();
        let path = self.project.folder.join(ACCEPTED_FILE);
        self.project.migrations.clone().with_accepted(&path, &accepted).with_files(files)?;
        Ok(())
    }

    fn refuse_taken_relations(&self, new: &NewMigration) -> Result<(), TemplateError> {
        let own = self.project.migrations.set(new.set).files();
        if own.is_empty() {
            return Ok(());
        }
        let alone = Migrations::empty().with_files([(new.set, new.file.as_str(), new.sql)])?;
        let made: Vec<String> =
            alone.set(new.set).files().iter().flat_map(lint::relations).map(|(relation, _)| relation).collect();
        for own in own {
            if let Some((relation, _)) = lint::relations(own).into_iter().find(|(relation, _)| made.contains(relation))
            {
                let (file, template) = (own.path().to_owned(), new.template.clone());
                return Err(TemplateError::RelationTaken { file, relation, template });
            }
        }
        Ok(())
    }

    /// Returns the text of `accepted.txt`, including the accepted warnings of the new files.
    fn accepted_text(&self) -> Option<String> {
        let before = self.project.accepted_text.as_deref();
        if self.accepted.is_empty() {
            return before.map(str::to_owned);
        }
        let mut text = before.unwrap_or(ACCEPTED_HEADING).to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.extend(self.accepted.iter().map(String::as_str));
        Some(text)
    }

    fn into_plan(self) -> InitPlan {
        let folder = &self.project.folder;
        let migration = |new: &NewMigration| PlannedFile {
            path: folder.join(new.set.folder()).join(&new.file),
            text: new.sql.to_owned(),
            replaces: None,
        };
        let mut files: Vec<PlannedFile> = self.migrations.iter().map(migration).collect();
        if let Some(text) = self.accepted_text() {
            files.push(PlannedFile {
                path: folder.join(ACCEPTED_FILE),
                text,
                replaces: self.project.accepted_text.clone(),
            });
        }
        files.push(PlannedFile {
            path: folder.join(record::FILE),
            text: self.record.text(),
            replaces: self.project.record_text.clone(),
        });
        let mut plan = InitPlan {
            files,
            templates: self.templates,
            kept: Vec::new(),
            gitignore_lacks_env: false,
            drafts: Vec::new(),
        };
        plan.find_drafts(folder);
        [Set::Public, Set::Tenant].iter().for_each(|set| plan.find_drafts(&folder.join(set.folder())));
        plan
    }
}

enum Standing {
    /// A file with the same text, under this name.
    SameText(MigrationId),
    There,
    New,
}

const ACCEPTED_HEADING: &str = "\
# Warnings of `cgk migrate:lint` that are known and meant, for files that were applied and must not be edited:
#   <folder>/<file>  <warning>  <reason>
# In a new file, write `-- cgk:accept <warning> <reason>` before the statement instead.

";
