//! Values that a migration adds to an enum: the server allows their use only after the commit. And materialized views
//! that no migration has populated.

use crate::{
    fixture::left_of,
    stage::{Stage, slug},
    transfer_fixture::{Folder, bare, contents, create, export, import, set},
};
use cgk::{
    ErrorKind, TenantSlug, TenantStatus, drift,
    lifecycle::{self, Archive, CloneOptions, DropOptions, ExportOptions, ImportOptions, TransferObserver},
    migrate::{Migrations, Scope, Set, Silent},
};
use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    pin::pin,
    task::Poll,
};

const KINDS: [(&str, &str); 2] = [
    (
        "900_kinds.sql",
        "create type kind as enum ('ok', 'sad');
         create table kinds (id int primary key, kind kind not null default 'ok', kinds kind[]);
         create materialized view per_kind as select kind, count(*) as n from kinds group by kind with no data;
         create materialized view never as select count(*) as n from kinds with no data;",
    ),
    ("901_value.sql", "alter type kind add value 'meh' before 'sad'"),
];

const ROWS: &str = "
insert into tenant_acme.kinds values (1, 'meh', '{sad,meh}'), (2, 'ok', null);
refresh materialized view tenant_acme.per_kind";

async fn acme() -> (Stage, Migrations, Folder) {
    let migrations = set(&KINDS);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage.run(ROWS).await;
    (stage, migrations, Folder::new())
}

fn copy() -> ImportOptions {
    ImportOptions::default().slug(slug("copy"))
}

/// The comment on a tenant's schema, without the id.
async fn comment(stage: &Stage, tenant: &str) -> String {
    let sql = "select regexp_replace(obj_description($1::text::regnamespace, 'pg_namespace'), '[0-9a-f-]{36}', 'ID')";
    stage.rows(sql, &[&format!("tenant_{tenant}")]).await[0].get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_an_added_value_is_imported_and_cloned() {
    let (stage, migrations, folder) = acme().await;
    export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let imported = Box::pin(import(&stage, &migrations, &folder.path("x"), &copy())).await.unwrap();
    assert_eq!((imported.tenant.status, imported.migrated), (TenantStatus::Active, 0));
    let operator = stage.operator().await;
    let (acme, twin, options) = (slug("acme"), slug("twin"), CloneOptions::default());
    let cloned = Box::pin(lifecycle::clone_tenant(&operator, &migrations, &acme, &twin, &options, &mut Silent)).await;
    assert_eq!(cloned.unwrap().tenant.status, TenantStatus::Active);

    let (wanted, wanted_comment) = (contents(&stage, "acme").await, comment(&stage, "acme").await);
    assert!(wanted.contains("== per_kind\n(meh,1)\n(ok,1)"), "{wanted}");
    assert!(!wanted.contains("== never"), "{wanted}");
    for tenant in ["copy", "twin"] {
        assert_eq!(contents(&stage, tenant).await, wanted, "{tenant}");
        assert_eq!(comment(&stage, tenant).await, wanted_comment, "{tenant}");
        let tenant = slug(tenant);
        let found =
            stage.db.with_tenant(&tenant, async |tx| tx.query_one("select count(*) from kinds", &[]).await).await;
        assert_eq!(found.unwrap().get::<_, i64>(0), 2);
    }
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert!(!report.has_drift() && !report.lacks_reference(), "{report:#?}");

    // A newer migration is applied after the rows.
    let newer = migrations.with_file(Set::Tenant, "902_more.sql", "alter table kinds add more int").unwrap();
    let options = ImportOptions::default().slug(slug("later"));
    let later = Box::pin(import(&stage, &newer, &folder.path("x"), &options)).await.unwrap();
    assert_eq!((later.tenant.status, later.migrated), (TenantStatus::Active, 1));
    assert_eq!(stage.count("select count(*) from tenant_later.kinds where more is null").await, 2);
}

/// Rows that the tables refuse leave nothing, although the tenant without rows was committed.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_refused_after_the_first_commit_leave_nothing() {
    let (stage, migrations, folder) = acme().await;
    stage
        .run(
            "alter table tenant_acme.kinds drop constraint kinds_pkey;
              insert into tenant_acme.kinds values (2, 'meh', null)",
        )
        .await;
    export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let refused = import(&stage, &migrations, &folder.path("x"), &copy()).await.unwrap_err();
    assert_eq!(refused.constraint(), Some("kinds_pkey"), "{refused:?}");
    assert_eq!(left_of(&stage, "copy").await, [false; 3]);
    let (operator, acme, to, options) = (stage.operator().await, slug("acme"), slug("copy"), CloneOptions::default());
    let refused = lifecycle::clone_tenant(&operator, &migrations, &acme, &to, &options, &mut Silent).await.unwrap_err();
    assert_eq!(refused.constraint(), Some("kinds_pkey"), "{refused:?}");
    assert_eq!(left_of(&stage, "copy").await, [false; 3]);
    stage.run("delete from tenant_acme.kinds where id = 2 and kind = 'meh'").await;
    export(&stage, "acme", &folder.path("y"), &ExportOptions::default()).await;
    import(&stage, &migrations, &folder.path("y"), &copy()).await.unwrap();
}

/// A set that uses the value itself needs a transaction for each file.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_uses_the_value_that_it_adds_is_imported_and_cloned() {
    let file = ("902_default.sql", "alter table kinds alter column kind set default 'meh'");
    let migrations = set(&[KINDS[0], KINDS[1], file]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage.run(ROWS).await;
    let folder = Folder::new();
    export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    // The database of the file knows that the set is not one transaction; the other one finds it out.
    let other = bare(&migrations).await;
    for stage in [&stage, &other] {
        let imported = Box::pin(import(stage, &migrations, &folder.path("x"), &copy())).await.unwrap();
        assert_eq!(imported.tenant.status, TenantStatus::Active);
    }
    let (operator, acme, twin, options) = (stage.operator().await, slug("acme"), slug("twin"), CloneOptions::default());
    let cloned = Box::pin(lifecycle::clone_tenant(&operator, &migrations, &acme, &twin, &options, &mut Silent)).await;
    assert_eq!(cloned.unwrap().tenant.status, TenantStatus::Active);
    let (wanted, wanted_comment) = (contents(&stage, "acme").await, comment(&stage, "acme").await);
    for (stage, tenant) in [(&stage, "copy"), (&stage, "twin"), (&other, "copy")] {
        assert_eq!(contents(stage, tenant).await, wanted, "{tenant}");
        assert_eq!(comment(stage, tenant).await, wanted_comment, "{tenant}");
    }
    // A file that fails after others are committed leaves nothing.
    let failing = ("903_failing.sql", "select 1 / (case when current_schema = 'tenant_bad' then 0 else 1 end)");
    let migrations = set(&[KINDS[0], KINDS[1], file, failing]);
    let third = bare(&migrations).await;
    create(&third, &migrations, "acme").await;
    export(&third, "acme", &folder.path("y"), &ExportOptions::default()).await;
    let bad = ImportOptions::default().slug(slug("bad"));
    let refused = import(&third, &migrations, &folder.path("y"), &bad).await.unwrap_err();
    assert_eq!(refused.code(), "CGK0603", "{refused:?}");
    assert_eq!(left_of(&third, "bad").await, [false; 3]);
    Box::pin(import(&third, &migrations, &folder.path("y"), &copy())).await.unwrap();
}

/// Ends the import that it observes when it loads rows, the first time or a later one.
struct UntilTheLoad(usize);

/// What the observer panics with.
struct Interrupted;

impl TransferObserver for UntilTheLoad {
    fn moved(&mut self, _: &TenantSlug, _: u64, _: u64) {
        self.0 -= 1;
        if self.0 == 0 {
            resume_unwind(Box::new(Interrupted));
        }
    }
}

async fn import_until_the_load(stage: &Stage, migrations: &Migrations, file: &Path, load: usize) {
    let operator = stage.operator().await;
    let (archive, options, mut observer) = (Archive::open(file).unwrap(), copy(), UntilTheLoad(load));
    let mut importing = pin!(lifecycle::import(&operator, migrations, archive, &options, &mut observer));
    let ended = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| importing.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(imported)) => panic!("{imported:?}"),
        Err(payload) => Poll::Ready(payload),
    });
    assert!(ended.await.is::<Interrupted>());
}

/// An interruption between the two commits leaves a tenant that cannot be used, only dropped.
async fn only_a_drop_follows_an_interruption(stage: &Stage, migrations: &Migrations, load: usize) {
    let folder = Folder::new();
    create(stage, migrations, "acme").await;
    stage.run(ROWS).await;
    export(stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    Box::pin(import_until_the_load(stage, migrations, &folder.path("x"), load)).await;
    assert_eq!(stage.count("select count(*) from tenant_copy.kinds").await, 0);
    let operator = stage.operator().await;
    let to = slug("copy");
    let entered = stage.db.with_tenant(&to, async |tx| tx.query_one("select 1", &[]).await).await;
    assert_ne!(entered.unwrap_err().kind(), ErrorKind::NotFound);
    let options = lifecycle::CreateOptions::default();
    let created = lifecycle::create(&operator, &stage.db, migrations, &to, &options).await.unwrap_err();
    assert_eq!(created.code(), "CGK0861", "{created:?}");
    let again = import(stage, migrations, &folder.path("x"), &copy()).await.unwrap_err();
    assert!(["CGK0861", "CGK0886"].contains(&again.code()), "{again:?}");
    lifecycle::drop_tenant(&operator, &to, &DropOptions::default(), &mut Silent).await.unwrap();
    assert_eq!(left_of(stage, "copy").await, [false; 3]);
    import(stage, migrations, &folder.path("x"), &copy()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_import_leaves_a_tenant_that_can_only_be_dropped() {
    // This set says that it needs several commits.
    let procedure = ("902_commit.sql", "create procedure end_one() language plpgsql as 'begin commit; end'");
    let alone = ("903_alone.sql", "-- cgk:no-transaction\ncall end_one()");
    let migrations = set(&[KINDS[0], KINDS[1], procedure, alone]);
    let stage = bare(&migrations).await;
    Box::pin(only_a_drop_follows_an_interruption(&stage, &migrations, 1)).await;
    // Of this one, the first load finds it out. From 17 on, an added value of a new type needs no commit.
    let version: i32 = stage.rows("select current_setting('server_version_num')::int / 10000", &[]).await[0].get(0);
    if version < 17 {
        let migrations = set(&KINDS);
        Box::pin(only_a_drop_follows_an_interruption(&bare(&migrations).await, &migrations, 2)).await;
    }
}
