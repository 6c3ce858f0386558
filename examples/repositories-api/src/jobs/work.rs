//! What the jobs do. Each runs in the context of its tenant.

use super::model::{Job, JobKind};
use crate::repositories;
use anyhow::{Context as _, ensure};
use cgk::{Db, TenantContext};
use serde_json::{Value, json};

/// Does a job, and returns what it found.
pub async fn run(db: &Db, job: &Job) -> anyhow::Result<Value> {
    let context = TenantContext::current()?;
    let found = db.current()?.transaction(async |tx| repositories::find(tx, job.repository_id).await).await?;
    let repository = context.own(found).context("the repository is gone")?;
    match job.kind {
        JobKind::Analyze => {
            let description = &repository.description;
            Ok(json!({ "words": description.split_whitespace().count(), "characters": description.chars().count() }))
        }
        JobKind::Verify => {
            ensure!(!repository.description.is_empty(), "the repository has no description");
            Ok(json!({ "verified": repository.name }))
        }
    }
}
