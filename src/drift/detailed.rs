//! Compares in detail the tenants for which the quick check has no final result. The workers of the fleet do this.
//!
//! The quick check itself does not process single tenants: it computes the fingerprints of many schemas in one query,
//! which costs a fraction of a query per schema.

use super::{
    group::{DriftGroupKey, Groups},
    inspect::{InspectOutcome, Wanted, inspect},
    judge,
    reference::References,
    report::{Change, Difference, SchemaDrift},
};
use crate::{
    db::Operator,
    error::{Error, Result},
    fleet::{
        interrupt::Interrupt,
        worker::{Finished, JobOutcome, TenantWork, WorkerPool},
    },
    ident::SchemaName,
    migrate::{Migrations, Set, rehearsal::with_word_replaced},
    registry::role_of,
    slug::TenantSlug,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Compares each group, and returns the result of every tenant in it.
pub(super) async fn compare(
    operator: &Operator,
    migrations: &Migrations,
    references: References<'_>,
    groups: Groups,
) -> Result<BTreeMap<TenantSlug, SchemaDrift>> {
    let jobs = groups.into_iter().filter_map(|(likeness, slugs)| {
        let first = slugs.first()?.clone();
        Some(Group { first, likeness, slugs })
    });
    let interrupt = Interrupt::default();
    let comparison = DetailedComparison {
        migrations,
        references: tokio::sync::Mutex::new(references),
        found: Mutex::new(Ok(BTreeMap::new())),
    };
    WorkerPool::new(operator, &interrupt, None).work(&comparison, jobs.collect()).await;
    comparison.found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Tenants that are equal in everything that the quick check compares.
struct Group {
    first: TenantSlug,
    likeness: Option<DriftGroupKey>,
    slugs: Vec<TenantSlug>,
}

struct DetailedComparison<'a> {
    migrations: &'a Migrations,
    /// Read when the first tenant needs them. The other tenants wait for that.
    references: tokio::sync::Mutex<References<'a>>,
    /// The results, or the first error.
    found: Mutex<Result<BTreeMap<TenantSlug, SchemaDrift>>>,
}

impl TenantWork for DetailedComparison<'_> {
    const OPERATION: &'static str = "drift";
    type Job = Group;
    type Done = Vec<(TenantSlug, SchemaDrift)>;

    fn slug(group: &Group) -> &TenantSlug {
        &group.first
    }

    /// Inspects one tenant of the group under its lock. If its state is still that of the quick check, the differences
    /// apply to the complete group. If it has changed, each tenant is inspected separately.
    async fn attempt(&self, operator: &Operator, group: &mut Group, _: u32) -> Result<JobOutcome<Self::Done>> {
        let source = self.migrations.set(Set::Tenant);
        let wanted = if group.likeness.is_some() { Wanted::ObjectsAndFingerprint } else { Wanted::Objects };
        let mut done: Self::Done = Vec::with_capacity(group.slugs.len());
        // The tenant whose differences apply to the others.
        let mut example: Option<usize> = None;
        for slug in &group.slugs {
            let schema = SchemaName::of_tenant(slug);
            if let Some((first, drift)) = example.map(|example| &done[example]) {
                let mut drift = SchemaDrift { schema, slug: Some(slug.clone()), ..drift.clone() };
                rename_tenant(operator, first, slug, &mut drift.differences);
                done.push((slug.clone(), drift));
                continue;
            }
            let role = role_of(operator, slug);
            let drift = match inspect(operator, &schema, wanted).await? {
                InspectOutcome::Busy => judge::busy(&schema, Some(slug)),
                InspectOutcome::Gone => judge::gone(&schema, Some(slug)),
                InspectOutcome::At(found) => {
                    if group.likeness.as_ref().is_some_and(|likeness| likeness.still_holds(&found)) {
                        example = Some(done.len());
                    }
                    let mut references = self.references.lock().await;
                    judge::judge(&schema, Some(slug), role.as_ref(), &found, source, &mut references).await?
                }
            };
            done.push((slug.clone(), drift));
        }
        Ok(JobOutcome::Done(done))
    }

    /// Every error ends the comparison, because its report would not be complete.
    fn ends_run(&self, _: &Error) -> bool {
        true
    }

    async fn finish(&self, _: &Operator, _: Group, finished: Finished<Self::Done>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *found, finished.result) {
            (Ok(found), Ok(done)) => found.extend(done),
            (Ok(_), Err(error)) => *found = Err(error),
            (Err(_), _) => {}
        }
    }
}

/// Replaces the names of the tenant: its role, and its schema in the texts.
fn rename_tenant(operator: &Operator, from: &TenantSlug, to: &TenantSlug, differences: &mut [Difference]) {
    let (from_schema, to_schema) = (SchemaName::of_tenant(from), SchemaName::of_tenant(to));
    let roles = role_of(operator, from).zip(role_of(operator, to));
    for difference in differences {
        if let Change::Differs { found, given, .. } = &mut difference.change {
            for text in [found, given].into_iter().flatten() {
                *text = with_word_replaced(text, from_schema.as_str(), to_schema.as_str());
            }
        }
        if let Some((from, to)) = &roles
            && difference.kind == "role"
            && difference.object == from.as_str()
        {
            difference.object = to.as_str().to_owned();
        }
    }
}
