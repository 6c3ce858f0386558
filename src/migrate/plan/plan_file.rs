//! A saved plan, which is reviewed and then executed exactly or not at all.

use super::{
    SchemaPlan, Target,
    fleet::{FleetPlan, Step},
};
use crate::{
    db::Operator,
    error::Result,
    fleet::selection::{Scope, Selection, Shard},
    migrate::ledger::LedgerDigest,
    slug::TenantSlug,
    version::Version,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The only version of the format below.
const FORMAT: u32 = 1;

/// A saved plan: its selection, and the state of every schema when it was made. Serializes with serde.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    v: u32,
    cgk_version: String,
    database: String,
    selection: SavedSelection,
    target: Option<i64>,
    public: Option<SavedSteps>,
    tenants: Vec<SavedGroup>,
    /// Tenants that are skipped or cannot be migrated.
    aside: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSelection {
    scope: SavedScope,
    exclude: Vec<String>,
    part: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedScope {
    Everything,
    Public,
    Tenants,
    Only(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSteps {
    /// The digest of the ledger's rows.
    ledger: String,
    pending: Vec<SavedFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedFile {
    version: i64,
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
                Step::Apply(plan) => groups.entry(SavedSteps::of(plan)).or_default().push(slug),
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
                Target::Version(version) => Some(version.get()),
            },
            public: planned.public.as_ref().map(SavedSteps::of),
            tenants: groups.into_iter().map(|(steps, tenants)| SavedGroup { steps, tenants }).collect(),
            aside,
        }
    }

    /// Returns the selection. Plan it again before you call [`differences`](Self::differences).
    ///
    /// # Errors
    ///
    /// Kind `Invalid`: the file contains a text that is not a slug.
    pub fn selection(&self) -> Result<Selection> {
        let slugs = |texts: &[String]| texts.iter().map(|text| Ok(text.parse()?)).collect::<Result<Vec<TenantSlug>>>();
        let scope = match &self.selection.scope {
            SavedScope::Everything => Scope::Everything,
            SavedScope::Public => Scope::Public,
            SavedScope::Tenants => Scope::Tenants,
            SavedScope::Only(texts) => Scope::Only(slugs(texts)?),
        };
        let selection = Selection::from(scope).excluding(slugs(&self.selection.exclude)?);
        Ok(match self.selection.part.as_ref().and_then(|text| text.parse::<Shard>().ok()) {
            Some(part) => selection.shard(part),
            None => selection,
        })
    }

    /// Returns the target.
    pub fn target(&self) -> Target {
        self.target.and_then(Version::new).map_or(Target::Head, Target::Version)
    }

    /// Returns how a plan made now differs, one line per difference. The result is empty if the saved plan may be
    /// executed.
    pub fn differences(&self, operator: &Operator, planned: &FleetPlan<'_>) -> Vec<String> {
        let now = Self::of(operator, planned);
        let mut found = Vec::new();
        if self.v != FORMAT {
            return vec![format!("the plan has format {}, and this version of cgk reads {FORMAT}", self.v)];
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

    fn by_tenant(&self) -> BTreeMap<&str, Option<&SavedSteps>> {
        let aside = self.aside.iter().map(|slug| (slug.as_str(), None));
        let groups = self.tenants.iter();
        aside
            .chain(groups.flat_map(|group| group.tenants.iter().map(|slug| (slug.as_str(), Some(&group.steps)))))
            .collect()
    }
}

/// Returns a text such as `001_a … 003_c pending`. Two texts also differ if only the content of a file or of a ledger
/// differs.
fn describe(steps: Option<&SavedSteps>) -> String {
    let Some(steps) = steps else { return "nothing to apply".into() };
    let short = |text: &str| text.trim_start_matches("sha256:").chars().take(8).collect::<String>();
    let files: Vec<String> = steps
        .pending
        .iter()
        .map(|file| format!("{:03}_{} ({})", file.version, file.name, short(&file.checksum)))
        .collect();
    format!("{} pending on ledger {}", files.join(", "), short(&steps.ledger))
}

impl SavedSteps {
    fn of(plan: &SchemaPlan<'_>) -> Self {
        Self {
            ledger: LedgerDigest::of(&plan.applied).as_str().to_owned(),
            pending: plan
                .pending
                .iter()
                .map(|file| SavedFile {
                    version: file.id().version.get(),
                    name: file.id().name.clone(),
                    checksum: file.checksum().as_str().to_owned(),
                })
                .collect(),
        }
    }
}

impl SavedSelection {
    fn of(selection: &Selection) -> Self {
        let texts = |slugs: &[TenantSlug]| slugs.iter().map(|slug| slug.as_str().to_owned()).collect();
        Self {
            scope: match &selection.scope {
                Scope::Everything => SavedScope::Everything,
                Scope::Public => SavedScope::Public,
                Scope::Tenants => SavedScope::Tenants,
                Scope::Only(slugs) => SavedScope::Only(texts(slugs)),
            },
            exclude: selection.exclude.iter().map(|slug| slug.as_str().to_owned()).collect(),
            part: selection.shard.map(|part| part.to_string()),
        }
    }
}
