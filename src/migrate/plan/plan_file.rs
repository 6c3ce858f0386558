//! A saved plan, which is reviewed and then executed exactly or not at all.

use super::{
    SchemaPlan, Target,
    fleet::{FleetPlan, Step},
    started::StartedMigration,
};
use crate::{
    db::Operator,
    fleet::selection::{Scope, Selection, Shard},
    migrate::ledger::LedgerDigest,
    migration,
    slug::TenantSlug,
    version::Version,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the format below. Version 1 had no progress of files without a transaction.
const FORMAT: u32 = 2;
const FORMAT_WITHOUT_PROGRESS: u32 = 1;

/// A saved plan: its selection, and the state of every schema when it was made. Serializes with serde.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    v: u32,
    cgk_version: String,
    database: String,
    selection: SavedSelection,
    target: Option<Version>,
    public: Option<SavedSteps>,
    tenants: Vec<SavedGroup>,
    /// Tenants that are skipped or cannot be migrated.
    aside: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSelection {
    scope: SavedScope,
    exclude: Vec<TenantSlug>,
    part: Option<Shard>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedScope {
    Everything,
    Public,
    Tenants,
    Only(Vec<TenantSlug>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSteps {
    /// The digest of the ledger's rows.
    ledger: String,
    pending: Vec<SavedFile>,
    /// How far the schema got in the first of these files, if it has no transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<SavedProgress>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedProgress {
    version: Version,
    name: String,
    statements_done: usize,
    /// Whether the next statement was started and its result was not recorded.
    next_is_unclear: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedFile {
    version: Version,
    name: String,
    checksum: String,
}

/// Tenants with the same state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedGroup {
    #[serde(flatten)]
    steps: SavedSteps,
    tenants: Vec<String>,
}

impl SavedPlan {
    /// Saves a plan.
    pub fn of(operator: &Operator, planned: &FleetPlan<'_>) -> Self {
        let mut groups: BTreeMap<SavedSteps, Vec<String>> = BTreeMap::new();
        let mut aside = Vec::new();
        for tenant in &planned.tenants {
            let slug = tenant.slug.as_str().to_owned();
            match &tenant.step {
                Step::Apply(plan) => {
                    groups.entry(SavedSteps::of(plan, tenant.started.as_ref())).or_default().push(slug);
                }
                Step::Skip { .. } | Step::Refuse(_) => aside.push(slug),
            }
        }
        Self {
            v: FORMAT,
            cgk_version: env!("CARGO_PKG_VERSION").into(),
            database: operator.facts().database.clone(),
            selection: SavedSelection::of(&planned.selection),
            target: match planned.target {
                Target::Head => None,
                Target::Version(version) => Some(version),
            },
            public: planned.public.as_ref().map(|plan| SavedSteps::of(plan, planned.public_started.as_ref())),
            tenants: groups.into_iter().map(|(steps, tenants)| SavedGroup { steps, tenants }).collect(),
            aside,
        }
    }

    /// Returns the selection. Plan it again before you call [`differences`](Self::differences).
    pub fn selection(&self) -> Selection {
        let SavedSelection { scope, exclude, part } = self.selection.clone();
        let scope = match scope {
            SavedScope::Everything => Scope::Everything,
            SavedScope::Public => Scope::Public,
            SavedScope::Tenants => Scope::Tenants,
            SavedScope::Only(slugs) => Scope::Only(slugs),
        };
        let selection = Selection::from(scope).excluding(exclude);
        match part {
            Some(part) => selection.shard(part),
            None => selection,
        }
    }

    /// Returns the target.
    pub fn target(&self) -> Target {
        self.target.map_or(Target::Head, Target::Version)
    }

    /// Returns how a plan made now differs, one line per difference. The result is empty if the saved plan may be
    /// executed. A plan of an earlier version of cgk has no progress of files without a transaction, so that is not
    /// compared.
    pub fn differences(&self, operator: &Operator, planned: &FleetPlan<'_>) -> Vec<String> {
        let mut now = Self::of(operator, planned);
        let mut found = Vec::new();
        match self.v {
            FORMAT => {}
            FORMAT_WITHOUT_PROGRESS => now.forget_progress(),
            other => return vec![format!("the plan has format {other}, and this version of cgk reads {FORMAT}")],
        }
        if self.database != now.database {
            return vec![format!("it is a plan for database {}, and this is {}", self.database, now.database)];
        }
        if self.public != now.public {
            found.push(format!(
                "public: {} then, {} now",
                describe(self.public.as_ref()),
                describe(now.public.as_ref())
            ));
        }
        let (then, today) = (self.by_tenant(), now.by_tenant());
        for slug in then.keys().chain(today.keys().filter(|slug| !then.contains_key(*slug))) {
            let (then, today) = (then.get(slug).copied().flatten(), today.get(slug).copied().flatten());
            if then != today {
                found.push(format!("tenant {slug}: {} then, {} now", describe(then), describe(today)));
            }
        }
        found
    }

    /// Removes what a plan of the first format does not have. Groups may then be equal.
    fn forget_progress(&mut self) {
        let tenants = self.tenants.iter_mut().map(|group| &mut group.steps);
        tenants.chain(&mut self.public).for_each(|steps| steps.started = None);
    }

    fn by_tenant(&self) -> BTreeMap<&str, Option<&SavedSteps>> {
        let aside = self.aside.iter().map(|slug| (slug.as_str(), None));
        let groups = self.tenants.iter();
        aside
            .chain(groups.flat_map(|group| group.tenants.iter().map(|slug| (slug.as_str(), Some(&group.steps)))))
            .collect()
    }
}

/// Returns a text such as `001_a … 003_c pending`. Two texts also differ if only the content of a file or of a ledger, or
/// the progress of a file, differs.
fn describe(steps: Option<&SavedSteps>) -> String {
    let Some(steps) = steps else { return "nothing to apply".into() };
    let short = |text: &str| text.trim_start_matches("sha256:").chars().take(8).collect::<String>();
    let files: Vec<String> = steps
        .pending
        .iter()
        .map(|file| format!("{}_{} ({})", file.version, file.name, short(&file.checksum)))
        .collect();
    let progress = steps.started.as_ref().map(SavedProgress::shown).unwrap_or_default();
    format!("{} pending on ledger {}{progress}", files.join(", "), short(&steps.ledger))
}

impl SavedProgress {
    fn of(started: &StartedMigration) -> Self {
        Self {
            version: started.id.version,
            name: started.id.name.clone(),
            statements_done: started.done,
            next_is_unclear: started.next.is_some_and(|next| next.is_unclear),
        }
    }

    /// Returns a text such as ` with 4 statements of 002_a done`.
    fn shown(&self) -> String {
        let begun = if self.next_is_unclear { " and one more started" } else { "" };
        let done = migration::count(self.statements_done, "statement");
        format!(" with {done} of {}_{} done{begun}", self.version, self.name)
    }
}

impl SavedSteps {
    fn of(plan: &SchemaPlan<'_>, started: Option<&StartedMigration>) -> Self {
        Self {
            started: started.map(SavedProgress::of),
            ledger: LedgerDigest::of(&plan.applied).as_str().to_owned(),
            pending: plan
                .pending
                .iter()
                .map(|file| SavedFile {
                    version: file.id().version,
                    name: file.id().name.clone(),
                    checksum: file.checksum().as_str().to_owned(),
                })
                .collect(),
        }
    }
}

impl SavedSelection {
    fn of(selection: &Selection) -> Self {
        Self {
            scope: match &selection.scope {
                Scope::Everything => SavedScope::Everything,
                Scope::Public => SavedScope::Public,
                Scope::Tenants => SavedScope::Tenants,
                Scope::Only(slugs) => SavedScope::Only(slugs.clone()),
            },
            exclude: selection.exclude.iter().cloned().collect(),
            part: selection.shard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a plan, with a part of it replaced.
    fn plan(from: &str, to: &str) -> String {
        let text = r#"{"v": 1, "cgk_version": "0.1.0", "database": "shop",
            "selection": {"scope": {"only": ["acme"]}, "exclude": ["globex"], "part": "1/3"}, "target": 7,
            "public": {"ledger": "sha256:00", "pending": []},
            "tenants": [{"ledger": "sha256:00", "pending": [{"version": 7, "name": "a", "checksum": "sha256:00"}],
                         "tenants": ["acme"]}],
            "aside": []}"#;
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    }

    #[test]
    fn a_part_of_a_plan_that_cannot_be_read_is_refused() {
        let read = |from, to| serde_json::from_str::<SavedPlan>(&plan(from, to));
        let kept = read("", "").unwrap();
        let (acme, globex): (TenantSlug, TenantSlug) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let selection = Selection::from(Scope::Only(vec![acme])).excluding([globex]).shard("1/3".parse().unwrap());
        assert_eq!((kept.selection(), kept.target()), (selection, Target::Version(Version::new(7).unwrap())));
        for (from, to, reason) in [
            (r#""1/3""#, r#""4/3""#, "\"4/3\" is not a part of a fleet"),
            (r#""1/3""#, r#""1/3 ""#, "is not a part of a fleet"),
            (r#""target": 7"#, r#""target": 0"#, "\"0\" is not a migration version"),
            (r#""target": 7"#, r#""target": -7"#, "is not a migration version"),
            (r#""target": 7"#, r#""target": "7""#, "invalid type"),
            (r#"["acme"]"#, r#"["Acme"]"#, "is not a tenant slug"),
            (r#"["globex"]"#, r#"["globex, acme"]"#, "is not a tenant slug"),
            (r#"{"only": ["acme"]}"#, r#""all""#, "unknown variant"),
            (r#""version": 7"#, r#""version": 0"#, "is not a migration version"),
            (r#""part""#, r#""shard""#, "unknown field"),
            (r#""aside""#, r#""beside""#, "unknown field"),
            (r#""tenants": ["acme"]"#, r#""tenants": ["acme"], "target": 3"#, "unknown field"),
            (r#""tenants": ["acme"]"#, r#""tenants": ["acme"], "started": {"done": 3}"#, "unknown field"),
            (r#""tenants": ["acme"]"#, r#""tenants": ["acme"], "started": 3"#, "invalid type"),
        ] {
            let error = read(from, to).unwrap_err().to_string();
            assert!(error.contains(reason), "{from} -> {to}: {error}");
        }
    }
}
