//! `tenant:export` and `tenant:import`: what arrives is what was sent.

use crate::{
    fixture::left_of,
    stage::{Stage, must_end, run, slug},
    transfer_fixture::{Folder, bare, contents, create, export, import, rich, set},
};
use cgk::{
    Error, ErrorKind, TransferError, drift,
    lifecycle::{self, Archive, ExistingFile, ExportOptions, ImportOptions, Imported, TransferObserver},
    migrate::{Migrations, Scope, Silent},
};
use std::num::NonZeroUsize;

/// Every type, partitions, identity, generated columns, cycles of foreign keys, triggers and odd names: into another database
/// under the same slug, and beside itself under another one.
#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_as_it_was() {
    let (source, migrations) = rich("acme").await;
    let folder = Folder::new();
    let before = contents(&source, "acme").await;
    let file = folder.path("acme.cgk");
    let exported = export(&source, "acme", &file, &ExportOptions::default().jobs(NonZeroUsize::new(3).unwrap())).await;
    assert!(exported.rows > 250 && exported.left_out.is_empty(), "{exported:?}");
    assert_eq!(contents(&source, "acme").await, before);

    let target = bare(&migrations).await;
    let imported = import(&target, &migrations, &file, &ImportOptions::default()).await.unwrap();
    assert_eq!((imported.rows, imported.tables), (exported.rows, exported.tables));
    assert_eq!((imported.tenant.id, imported.tenant.name.as_str()), (exported.tenant.id, "Acme & Söhne"));
    assert!(!imported.is_new_organization && imported.mapped_columns == 0 && imported.migrated == 0);
    assert_eq!(contents(&target, "acme").await, before);
    no_drift(&target, &migrations).await;

    // Beside itself, where only the organization differs.
    let other = ImportOptions::default().slug(slug("globex"));
    let imported = import(&source, &migrations, &file, &other).await.unwrap();
    assert!(imported.is_new_organization && imported.tenant.id != exported.tenant.id);
    assert_eq!(imported.mapped_columns, 2);
    let (old, new) = (exported.tenant.id.to_string(), imported.tenant.id.to_string());
    assert_eq!(contents(&source, "globex").await, before.replace(&format!("@{old}"), &format!("@{new}")));
    assert!(before.contains(&format!("@{old}")) && before.contains(&format!("json {old}")), "{before}");
    no_drift(&source, &migrations).await;

    // What comes after the load works as before: triggers fire, sequences and identities go on.
    let acme = "tenant_acme";
    target
        .run(&format!("set search_path = {acme}; insert into {acme}.touched (id) values (99); reset search_path; insert into {acme}.always (v) values ('new')"))
        .await;
    assert_eq!(target.count(&format!("select count(*) from {acme}.audit where note = 'touched 99'")).await, 2);
    assert_eq!(target.count(&format!("select max(id) from {acme}.always")).await, 51);
    assert_eq!(target.count(&format!("select nextval('{acme}.alone')")).await, 43);
}

async fn no_drift(stage: &Stage, migrations: &Migrations) {
    let operator = stage.operator().await;
    let report = drift::verify(&operator, migrations, &Scope::Tenants).await.unwrap();
    assert!(!report.has_drift() && !report.lacks_reference(), "{report:#?}");
}

/// Tables with random columns, and rows with random values and NULLs.
#[tokio::test(flavor = "multi_thread")]
async fn random_tables_arrive_as_they_were() {
    const TYPES: [(&str, &str); 22] = [
        ("int2", "(random() * 65535 - 32768)::int2"),
        ("int8", "(random() * 1e18)::int8 * sign(random() - 0.5)::int8"),
        (
            "numeric",
            "case when random() < 0.1 then 'NaN' else (random() - 0.5)::numeric * 10 ^ (random() * 40)::int end",
        ),
        ("float4", "case when random() < 0.1 then '-Infinity' else (random() - 0.5)::float4 end"),
        ("float8", "case when random() < 0.1 then '-0' else exp(random() * 600 - 300) end"),
        ("money", "(random() * 1e6)::numeric::money"),
        ("text", "repeat(chr((random() * 200 + 1)::int), (random() * 20)::int) || E'\\t\\n\\r\\\\' || '\\N'"),
        ("varchar(50)", "case when random() < 0.2 then '' else md5(random()::text) end"),
        ("char(10)", "left(md5(random()::text), (random() * 10)::int)"),
        ("bytea", "decode(repeat(md5(random()::text), (random() * 9)::int), 'hex')"),
        (
            "timestamptz",
            "case when random() < 0.1 then 'infinity' else now() - random() * interval '6000 years' * sign(random() - 0.1) end",
        ),
        ("timestamp", "'4713-01-01 BC'::timestamp + random() * interval '90000 years'"),
        ("date", "'0001-01-01'::date + (random() * 2000000 - 1000000)::int"),
        ("timetz", "('0:00'::time + random() * interval '1 day')::timetz"),
        ("interval", "random() * interval '100 years 3 months' - interval '7 days 00:00:00.000001'"),
        ("bool", "random() < 0.5"),
        ("uuid", "gen_random_uuid()"),
        ("jsonb", "jsonb_build_object(md5(random()::text), array[random()], 'x', E'\\t\"\\\\')"),
        ("int4[]", "case when random() < 0.2 then '{}' else array[1, null, (random() * 9)::int] end"),
        ("text[]", "array['NULL', null, 'a,\"b', E'\\\\', E'\\n', '']"),
        ("tstzrange", "tstzrange(now(), now() + random() * interval '1 year', '(]')"),
        ("bit varying", "(random() * 1e6)::int::bit(24)::varbit"),
    ];
    let seed: u64 = rand::random();
    let mut dice = Dice(seed);
    let mut tables = String::new();
    let mut inserts = String::new();
    for table in 0..12 {
        let columns: Vec<(String, (&str, &str))> = (0..1 + dice.roll(8))
            .map(|n| (format!("\"c{n} {}\"", ["x", "ä", "%", "Ünï\"\"q"][dice.roll(4)]), TYPES[dice.roll(TYPES.len())]))
            .collect();
        let listed: Vec<String> = columns.iter().map(|(name, (type_name, _))| format!("{name} {type_name}")).collect();
        tables.push_str(&format!("create table \"t {table}\" ({});\n", listed.join(", ")));
        let values: Vec<String> = columns
            .iter()
            .map(|(_, (type_name, value))| format!("case when random() > 0.15 then ({value})::{type_name} end"))
            .collect();
        inserts.push_str(&format!(
            "insert into \"t {table}\" select {} from generate_series(1, {}) n;\n",
            values.join(", "),
            dice.roll(3) * dice.roll(700)
        ));
    }
    let migrations = set(&[("900_random.sql", &tables)]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(&format!(
            "set search_path = tenant_acme; select setseed({}); {inserts}; reset search_path",
            (seed % 1000) as f64 / 1000.0
        ))
        .await;
    let folder = Folder::new();
    export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let options = ImportOptions::default().slug(slug("copy"));
    import(&stage, &migrations, &folder.path("x"), &options)
        .await
        .unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    assert_eq!(contents(&stage, "acme").await, contents(&stage, "copy").await, "seed {seed}");
    no_drift(&stage, &migrations).await;
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Whoever writes meanwhile is in the file completely or not at all, and a migration waits.
#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_one_snapshot() {
    struct Writes<'a>(&'a Stage, bool);
    impl TransferObserver for Writes<'_> {
        fn moved(&mut self, _: &cgk::TenantSlug, _: u64, _: u64) {
            if !std::mem::replace(&mut self.1, true) {
                let sql = "insert into tenant_acme.big select n, 'late' from generate_series(1, 5) n;
                           insert into tenant_acme.small values (2)";
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(run(&self.0.watch, sql)));
            }
        }
    }
    let migrations = set(&[("900_two.sql", "create table big (id int, v text); create table small (id int)")]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            "insert into tenant_acme.big select n, repeat('x', 900) from generate_series(1, 9000) n;
               insert into tenant_acme.small values (1)",
        )
        .await;
    let folder = Folder::new();
    let file = folder.path("acme.cgk");
    let mut writes = Writes(&stage, false);
    let operator = stage.operator().await;
    let (acme, options) = (slug("acme"), ExportOptions::default());
    let export = lifecycle::export_to_file(&operator, &acme, &file, &options, &mut writes);
    let exported = must_end(export).await.unwrap();
    assert!(writes.1);
    assert_eq!(exported.rows, 9001);
    assert_eq!(
        stage.count("select (select count(*) from tenant_acme.big) + (select count(*) from tenant_acme.small)").await,
        9007
    );
}

/// A file that is older than the set: the rows are loaded as they were, and then migrated.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_file_is_migrated_after_the_load() {
    let old = set(&[(
        "900_old.sql",
        "create table notes (id int primary key, v text); insert into notes values (0, 'seed')",
    )]);
    let new = set(&[
        ("900_old.sql", "create table notes (id int primary key, v text); insert into notes values (0, 'seed')"),
        ("901_new.sql", "alter table notes add column long int; update notes set long = length(v)"),
    ]);
    let source = bare(&old).await;
    create(&source, &old, "acme").await;
    source.run("insert into tenant_acme.notes values (1, 'three')").await;
    let folder = Folder::new();
    export(&source, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let target = bare(&new).await;
    let imported: Imported = import(&target, &new, &folder.path("x"), &ImportOptions::default()).await.unwrap();
    assert_eq!((imported.migrated, imported.rows), (1, 2));
    assert_eq!(imported.tenant.status, cgk::TenantStatus::Active);
    assert_eq!(target.count("select sum(long) from tenant_acme.notes").await, 9);
    no_drift(&target, &new).await;
}

/// A newer migration that the rows do not allow: the tenant stays `onboarding` with its rows, and `create` continues.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_file_that_cannot_be_migrated_is_continued_by_create() {
    let old = ("900_old.sql", "create table notes (id int primary key, v text)");
    let (before, after) = (set(&[old]), set(&[old, ("901_new.sql", "alter table notes alter v set not null")]));
    let source = bare(&before).await;
    create(&source, &before, "acme").await;
    source.run("insert into tenant_acme.notes values (1, null)").await;
    let folder = Folder::new();
    export(&source, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let target = bare(&after).await;
    let failed = import(&target, &after, &folder.path("x"), &ImportOptions::default()).await.unwrap_err();
    assert_eq!((failed.code(), failed.sqlstate().unwrap().code()), ("CGK0892", "23502"), "{failed:?}");
    assert!(failed.to_string().starts_with("tenant acme is created with all its rows"), "{failed}");
    assert_eq!(target.count("select count(*) from organizations where status = 'onboarding'").await, 1);
    target.run("update tenant_acme.notes set v = ''").await;
    create(&target, &after, "acme").await;
    assert_eq!(target.count("select count(*) from organizations where status = 'active'").await, 1);
    assert_eq!(target.count("select count(*) from tenant_acme.notes").await, 1);
    no_drift(&target, &after).await;
}

/// Partitions that no migration created.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_schedule_are_created() {
    let migrations = set(&[(
        "900_a.sql",
        "create table visits (at timestamptz not null, v text) partition by range (at);
         create table visits_first partition of visits for values from (minvalue) to ('2026-01-01 00:00:00+00');
         create index on visits (at)",
    )]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            "set search_path = tenant_acme;
             create table visits_2026_01 partition of visits for values from ('2026-01-01 00:00:00+00') to ('2026-02-01 00:00:00+00');
             create table \"visits rest\" partition of visits default;
             insert into visits select timestamptz '2025-12-20 00:00:00+00' + n * interval '1 day', 'v' from generate_series(1, 90) n;
             reset search_path",
        )
        .await;
    let folder = Folder::new();
    export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let copy = ImportOptions::default().slug(slug("copy"));
    import(&stage, &migrations, &folder.path("x"), &copy).await.unwrap();
    assert_eq!(contents(&stage, "copy").await, contents(&stage, "acme").await);
    assert_eq!(stage.count("select count(*) from tenant_copy.visits_2026_01").await, 31);
    stage.db.tenant(&slug("copy")).query("select 1 from visits", &[]).await.unwrap();
    no_drift(&stage, &migrations).await;

    // Partitions of partitions are named.
    stage.run("create table tenant_acme.deep partition of tenant_acme.visits for values from ('2030-01-01') to ('2031-01-01') partition by hash (v)").await;
    export(&stage, "acme", &folder.path("deep"), &ExportOptions::default()).await;
    let other = ImportOptions::default().slug(slug("other"));
    let refused = import(&stage, &migrations, &folder.path("deep"), &other).await.unwrap_err();
    assert!(refused.to_string().contains("partition deep"), "{refused}");
    assert_eq!(left_of(&stage, "other").await, [false; 3]);
}

/// What is refused leaves nothing: no row, no schema, no role.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_nothing_is_created() {
    let migrations = set(&[("900_a.sql", "create table notes (id int primary key)")]);
    let source = bare(&migrations).await;
    create(&source, &migrations, "acme").await;
    // A table, a column and a sequence beside the migrations.
    source.run("create table tenant_acme.extra (id serial); alter table tenant_acme.notes add column more text").await;
    let folder = Folder::new();
    let file = folder.path("x");
    export(&source, "acme", &file, &ExportOptions::default()).await;
    let target = bare(&migrations).await;
    let refused = import(&target, &migrations, &file, &ImportOptions::default()).await.unwrap_err();
    match &refused {
        Error::Transfer(TransferError::NotInSet { objects }) => {
            assert_eq!(objects, &["column notes.more", "table extra", "sequence extra_id_seq"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(left_of(&target, "acme").await, [false; 3]);

    for (other, code) in
        [(set(&[("900_a.sql", "create table notes (id int primary key, n int)")]), "CGK0604"), (set(&[]), "CGK0604")]
    {
        let target = bare(&other).await;
        let refused = import(&target, &other, &file, &ImportOptions::default()).await.unwrap_err();
        assert_eq!((refused.kind(), refused.code()), (ErrorKind::Drift, code), "{refused:?}");
        assert_eq!(left_of(&target, "acme").await, [false; 3]);
    }

    // The organization exists, and so does the slug.
    for (options, code) in
        [(ImportOptions::default(), "CGK0886"), (ImportOptions::default().slug(slug("acme2")), "CGK0885")]
    {
        assert_eq!(import(&source, &migrations, &file, &options).await.unwrap_err().code(), code);
    }
    assert_eq!(left_of(&source, "acme2").await, [false; 3]);
    create(&source, &migrations, "taken").await;
    let taken = ImportOptions::default().slug(slug("taken")).name("Taken");
    assert_eq!(import(&source, &migrations, &file, &taken).await.unwrap_err().code(), "CGK0886");
}

/// A row that only the loaded data breaks: the load fails at its end, and nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_break_a_foreign_key_are_refused() {
    let migrations =
        set(&[("900_a.sql", "create table up (id int primary key); create table down (up_id int references up)")]);
    let source = bare(&migrations).await;
    create(&source, &migrations, "acme").await;
    source.run("set session_replication_role = replica; insert into tenant_acme.down values (7); reset session_replication_role").await;
    let folder = Folder::new();
    export(&source, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let target = bare(&migrations).await;
    let refused = import(&target, &migrations, &folder.path("x"), &ImportOptions::default()).await.unwrap_err();
    assert_eq!(refused.constraint(), Some("down_up_id_fkey"), "{refused:?}");
    assert_eq!(left_of(&target, "acme").await, [false; 3]);
}

/// Large objects and foreign partitions are refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_named() {
    let migrations = set(&[(
        "900_a.sql",
        "create table docs (id int, body oid); create domain lo_ref as oid; create domain deeper as lo_ref;
         create table more (x lo_ref, y deeper, z oid[], fine oidvector)",
    )]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    let operator = stage.operator().await;
    let folder = Folder::new();
    let file = folder.path("x");
    let options = ExportOptions::default();
    let refused = lifecycle::export_to_file(&operator, &slug("acme"), &file, &options, &mut Silent).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("docs.body") && text.contains("more.x"), "{text}");
    assert!(text.contains("more.y") && text.contains("more.z") && !text.contains("fine"), "{text}");
    assert_eq!((refused.code(), folder.files()), ("CGK0880", 0));
    let missing = lifecycle::export_to_file(&operator, &slug("akme"), &file, &options, &mut Silent).await.unwrap_err();
    assert_eq!((missing.kind(), folder.files()), (ErrorKind::NotFound, 0));
}

/// A file that exists stays, unless it is to be replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_replaced_only_if_asked() {
    let stage = bare(&set(&[])).await;
    create(&stage, &set(&[]), "acme").await;
    let folder = Folder::new();
    let file = folder.path("x");
    std::fs::write(&file, "mine").unwrap();
    let operator = stage.operator().await;
    let options = ExportOptions::default();
    let refused = lifecycle::export_to_file(&operator, &slug("acme"), &file, &options, &mut Silent).await.unwrap_err();
    assert_eq!((refused.code(), std::fs::read(&file).unwrap()), ("CGK0889", b"mine".to_vec()));
    let options = options.existing(ExistingFile::Replace);
    lifecycle::export_to_file(&operator, &slug("acme"), &file, &options, &mut Silent).await.unwrap();
    let archive = Archive::open(&file).unwrap();
    assert_eq!((archive.slug(), archive.name(), folder.files()), (&slug("acme"), "acme", 1));
    assert_eq!(archive.text_bytes(), 0);
    assert!(archive.file_bytes() > 0 && archive.created_at().ends_with('Z') && archive.ledger().len() > 3);
}

/// A service can spawn both.
#[expect(dead_code, reason = "it is only compiled")]
fn the_futures_are_send(operator: &cgk::Operator, set: &cgk::migrate::Migrations, file: lifecycle::Archive) {
    fn is_send<F: Send>(_: F) {}
    is_send(lifecycle::import(operator, set, file, &lifecycle::ImportOptions::default(), &mut Silent));
    let (from, to) = (slug("acme"), slug("copy"));
    is_send(lifecycle::clone_tenant(operator, set, &from, &to, &lifecycle::CloneOptions::default(), &mut Silent));
}
