//! Former slugs beside the other verbs: no verb gives one to another tenant, and it stays the tenant's until it ends.

use crate::{
    fixture::{dropped, enters, left_of, refused_as, until},
    stage::{Stage, connect, must_end, slug},
    transfer_fixture::{Folder, export, import},
    warm::{SCHEMAS, warm},
};
use cgk::{
    ErrorKind, Operator, Result,
    lifecycle::{self, CloneOptions, CreateOptions, DropOptions, ExportOptions, ImportOptions, RenameOptions},
    migrate::{Migrations, Silent},
};
use std::{path::Path, time::Duration};

const HOUR: Duration = Duration::from_secs(3_600);

/// `acme` becomes `apex`, and is still found as `acme`.
async fn renamed(stage: &Stage) {
    let options = RenameOptions::default().slug(slug("apex")).keep_alias(HOUR);
    lifecycle::rename(&stage.operator().await, &slug("acme"), &options).await.unwrap();
    // The handle learns the former slug.
    assert_eq!(enters(&stage.db, "acme").await.unwrap_err().code(), "CGK0413");
    enters(&stage.db, "acme").await.unwrap();
}

async fn create(stage: &Stage, tenant: &str) -> Result<lifecycle::Created> {
    let (operator, options) = (stage.operator().await, CreateOptions::default());
    Box::pin(must_end(lifecycle::create(&operator, &stage.db, &Migrations::bundled(), &slug(tenant), &options))).await
}

/// Clones `globex`.
async fn clone_to(stage: &Stage, tenant: &str) -> Result<lifecycle::Cloned> {
    let (operator, migrations, options) = (stage.operator().await, Migrations::bundled(), CloneOptions::default());
    let (from, to) = (slug("globex"), slug(tenant));
    Box::pin(must_end(lifecycle::clone_tenant(&operator, &migrations, &from, &to, &options, &mut Silent))).await
}

async fn exported(stage: &Stage, tenant: &str, file: &Path) {
    Box::pin(export(stage, tenant, file, &ExportOptions::default())).await;
}

async fn imported(stage: &Stage, file: &Path, options: ImportOptions) -> Result<lifecycle::Imported> {
    Box::pin(import(stage, &Migrations::bundled(), file, &options)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verb_gives_a_former_slug_to_another_tenant() {
    let stage = Stage::set().await;
    let folder = Folder::new();
    let (before, globex) = (folder.path("acme"), folder.path("globex"));
    exported(&stage, "acme", &before).await;
    exported(&stage, "globex", &globex).await;
    renamed(&stage).await;
    assert_eq!(Box::pin(warm(&stage.operator().await, &Migrations::bundled(), 2)).await, (2, 2, 0));

    let acme = slug("acme");
    let as_acme = || ImportOptions::default().slug(slug("acme"));
    let refused = [
        ("create from a ready schema", create(&stage, "acme").await.unwrap_err()),
        ("clone", clone_to(&stage, "acme").await.unwrap_err()),
        ("import", imported(&stage, &globex, as_acme()).await.unwrap_err()),
    ];
    for (verb, error) in refused {
        assert_eq!((error.code(), error.kind()), ("CGK0414", ErrorKind::Conflict), "{verb}: {error:?}");
    }
    // The file from before the rename is of an organization that exists.
    let error = imported(&stage, &before, ImportOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), "CGK0886");
    assert!(error.to_string().contains("its slug is apex"), "{error}");
    assert_eq!((left_of(&stage, "acme").await, stage.count(SCHEMAS).await), ([false; 3], 2));
    // Other drivers enter by the slug alone.
    for (tenant, is_entered) in [("apex", true), ("acme", false)] {
        stage.run("begin").await;
        let entered = stage.watch.execute("select cgk_enter($1)", &[&tenant]).await;
        assert_eq!(entered.is_ok(), is_entered, "{tenant}: {entered:?}");
        stage.run("rollback").await;
    }
    enters(&stage.db, "acme").await.unwrap();

    // When it has ended, each verb gives it.
    stage.run("update cgk_aliases set expires_at = now()").await;
    let cloned = clone_to(&stage, "acme").await.unwrap();
    assert_eq!(cloned.tenant.slug, acme);
    enters(&stage.db, "acme").await.unwrap();
    dropped(&stage, "acme").await;
    let loaded = imported(&stage, &globex, as_acme()).await.unwrap();
    dropped(&stage, "acme").await;
    let created = create(&stage, "acme").await.unwrap();
    assert!(![loaded.tenant.id, created.tenant.id].contains(&stage.acme));
    assert_eq!(stage.count(SCHEMAS).await, 1, "a ready schema was used");
    assert_eq!(stage.db.platform().find_tenant(&acme).await.unwrap().slug, acme);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_waits_for_its_drop_keeps_its_former_slug() {
    let stage = Stage::set().await;
    let (operator, options) = (stage.operator().await, DropOptions::default());
    renamed(&stage).await;
    lifecycle::schedule_drop(&operator, &slug("apex"), 30 * 24 * HOUR, &options).await.unwrap();
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::Suspended);
    assert_eq!(create(&stage, "acme").await.unwrap_err().code(), "CGK0414");
    // Operators name the tenant by its slug, which the error for the former one contains.
    let undropped = lifecycle::undrop(&operator, &slug("acme"), &options).await.unwrap_err();
    assert_eq!(undropped.code(), "CGK0414");
    lifecycle::undrop(&operator, &slug("apex"), &options).await.unwrap();
    stage.db.tenant(&slug("acme")).query("select 1", &[]).await.unwrap();

    // A copy of it has none, and does not take it away.
    let folder = Folder::new();
    exported(&stage, "apex", &folder.path("x")).await;
    imported(&stage, &folder.path("x"), ImportOptions::default().slug(slug("copy"))).await.unwrap();
    assert_eq!(stage.count("select count(*) from cgk_aliases").await, 1);
    assert_eq!(stage.db.platform().find_tenant(&slug("acme")).await.unwrap().id, stage.acme);
    // With the drop it ends; the tenant that comes back from the file has none.
    dropped(&stage, "apex").await;
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::NotFound);
    let back = imported(&stage, &folder.path("x"), ImportOptions::default()).await.unwrap();
    assert_eq!((back.tenant.id, stage.count("select count(*) from cgk_aliases").await), (stage.acme, 0));
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::NotFound);
    assert_ne!(create(&stage, "acme").await.unwrap().tenant.id, stage.acme);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_renames_create_the_table_of_former_slugs_once() {
    let stage = Stage::set().await;
    let tables = "select count(*) from pg_tables where tablename = 'cgk_aliases'";
    assert_eq!(stage.count(tables).await, 0, "the precondition");
    let keep = |to: &str| RenameOptions::default().slug(slug(to)).keep_alias(HOUR);
    // What stops the first one is an error, not a table that another session has created.
    stage.run("create type cgk_aliases as enum ()").await;
    let error = lifecycle::rename(&stage.operator().await, &slug("acme"), &keep("apex")).await.unwrap_err();
    assert!(error.to_string().contains("create the table"), "{error}");
    stage.run("drop type cgk_aliases").await;

    // The first one waits inside of its CREATE TABLE, and the second one for the first: both have found no table.
    let mut holder = connect(&stage.database).await;
    let held = holder.transaction().await.unwrap();
    held.batch_execute("lock table organizations in row exclusive mode").await.unwrap();
    let run = |from: &'static str, options: RenameOptions, operator: Operator| {
        tokio::spawn(async move { lifecycle::rename(&operator, &slug(from), &options).await })
    };
    let waiting = |kind: &str| {
        format!(
            "select exists (select from pg_locks where not granted and locktype = '{kind}'
                     and database = (select oid from pg_database where datname = current_database()))"
        )
    };
    let first = run("acme", keep("apex"), stage.operator().await);
    until(&stage, "the first creates the table", &waiting("relation")).await;
    let second = run("globex", keep("other"), stage.operator().await);
    until(&stage, "the second waits for the first", &waiting("advisory")).await;
    held.commit().await.unwrap();
    for renamed in [first, second] {
        must_end(renamed).await.unwrap().unwrap();
    }
    assert_eq!((stage.count(tables).await, stage.count("select count(*) from cgk_aliases").await), (1, 2));
}
