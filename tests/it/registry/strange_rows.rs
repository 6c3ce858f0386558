//! Rows of the registry that cgk cannot read stop nothing for the other tenants.

use crate::{
    sandbox::{Files, Raw, migrate_all, plan_all},
    stage::slug,
    support::cgk::{Shell, sql},
};
use cgk::{
    Db, Error, ErrorKind, StrangeRow, TenantError, TenantStatus,
    drift::{self, NotCompared},
    lifecycle::{self, CreateManyOptions, CreateOptions, NewTenant},
    login::{self, LoginOptions},
    migrate::{self, Migrations, Scope, Step},
    setup,
    testing::{TestDatabase, TestServer},
};

/// What is planted: a status of the user's own on `trial`, one whose schema is gone on `gone`, and rows that are no tenants.
async fn plant(raw: &Raw) {
    raw.run(
        "alter table organizations alter status drop default, alter status type text using status::text,
             alter slug drop not null, drop constraint if exists organizations_slug_check, drop constraint organizations_slug_key;
         do $$ declare c text; begin
             for c in select conname from pg_constraint where conrelid = 'organizations'::regclass and contype = 'c' loop
                 execute format('alter table organizations drop constraint %I', c);
             end loop; end $$;
         update organizations set status = 'trial', created_at = 'infinity' where slug = 'trial';
         insert into organizations (id, slug, name, status) values
             (gen_random_uuid(), 'Acme-Inc', 'Acme', 'active'), (gen_random_uuid(), null, 'None', 'active'),
             (gen_random_uuid(), E'bad\\n\\x1b[31m', 'Bad', 'archived'), (gen_random_uuid(), 'globex', 'Again', 'active'),
             (gen_random_uuid(), 'gone', 'Gone', E'arch\\nived');
         create schema \"tenant_Acme-Inc\"",
    )
    .await;
}

async fn fleet() -> (TestDatabase, Db, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let db = database.with_tenants(&["acme", "globex", "trial"]).await.unwrap();
    let raw = Raw::on(&database).await;
    (database, db, raw)
}

fn texts(rows: &[StrangeRow]) -> Vec<(Option<&str>, &str)> {
    let mut texts: Vec<_> = rows.iter().map(|row| (row.slug.as_deref(), row.why.as_str())).collect();
    texts.sort_unstable();
    texts
}

const STRANGE: [(Option<&str>, &str); 4] = [
    (None, "it has no slug"),
    (Some("Acme-Inc"), "no slug of a tenant: it must start with a letter a-z"),
    (Some("bad\n\u{1b}[31m"), "no slug of a tenant: '\\n' is not one of a-z, 0-9 and _"),
    (Some("globex"), "another organization has the same slug"),
];

#[tokio::test]
async fn the_others_are_listed_migrated_compared_and_made_as_without_them() {
    let (database, db, raw) = fleet().await;
    let operator = database.operator().await.unwrap();
    let bundled = Migrations::bundled();
    let states = |fleet: &migrate::FleetState| -> Vec<(String, String)> {
        let known = ["acme", "globex", "trial"];
        let tenants = fleet.tenants.iter().filter(|tenant| known.contains(&tenant.tenant.slug.as_str()));
        tenants.map(|tenant| (tenant.tenant.slug.to_string(), format!("{:?}", tenant.state))).collect()
    };
    let before = migrate::read_state(&operator, &bundled).await.unwrap();
    assert_eq!((states(&before).len(), before.strange.len()), (3, 0));
    let clean = drift::verify(&operator, &bundled, &Scope::Tenants).await.unwrap();
    assert!(!clean.has_drift(), "{clean:?}");

    plant(&raw).await;
    let after = migrate::read_state(&operator, &bundled).await.unwrap();
    assert_eq!(states(&after), states(&before));
    assert_eq!(texts(&after.strange), STRANGE);
    let trial = after.tenants.iter().find(|tenant| tenant.tenant.slug == slug("trial")).unwrap();
    assert_eq!(trial.tenant.status, TenantStatus::Other("trial".into()));
    let compared = drift::verify(&operator, &bundled, &Scope::Tenants).await.unwrap();
    assert!(!compared.has_drift(), "{compared:?}");
    assert_eq!(texts(&compared.strange), STRANGE);
    let gone = compared.tenants.iter().find(|tenant| tenant.slug == Some(slug("gone"))).unwrap();
    assert_eq!(gone.not_compared, Some(NotCompared::UnknownStatus));

    // Whoever has an unknown status is migrated; one that has no schema is left out, and that is no fault.
    let files = Files::empty();
    for set in [migrate::Set::Public, migrate::Set::Tenant] {
        for file in bundled.set(set).files() {
            let name = file.path().file_name().unwrap().to_str().unwrap();
            match set {
                migrate::Set::Public => files.public(name, file.sql()),
                migrate::Set::Tenant => files.tenant(name, file.sql()),
            };
        }
    }
    let migrations = files.tenant("900_more.sql", "create table more (id int);").load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    assert_eq!(texts(&planned.strange), STRANGE);
    let steps: Vec<_> = planned.tenants.iter().map(|tenant| (tenant.slug.as_str(), &tenant.step)).collect();
    assert!(
        matches!(
            &steps[..],
            [("acme", Step::Apply(_)), ("globex", Step::Apply(_)), ("gone", Step::Skip { reason }), ("trial", Step::Apply(_))]
            if reason.starts_with("arch\\nived: ")
        ),
        "{steps:?}"
    );
    let run = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!((run.migrated(), run.failed(), run.skipped()), (3, 0, 1), "{run:?}");

    // Setting up, a login of services, and other tenants.
    let report = setup::setup(&operator, &migrations, &mut migrate::Silent).await.unwrap();
    assert!(report.bound.failed.iter().all(|(tenant, _)| *tenant != slug("acme")), "{:?}", report.bound.failed);
    let name = format!("app_{:08x}", rand::random::<u32>());
    let admitted = login::admit(&operator, &name.parse().unwrap(), &LoginOptions::default()).await.unwrap();
    assert!(admitted.tenants >= 3 && admitted.left_out.contains(&slug("gone")), "{admitted:?}");
    lifecycle::create(&operator, &db, &migrations, &slug("umbrella"), &CreateOptions::default()).await.unwrap();
    let many = [NewTenant::from(slug("initech")), NewTenant::from(slug("trial"))];
    let options = CreateManyOptions::default();
    let made =
        lifecycle::create_many(&operator, &db, &migrations, &many, &options, &mut migrate::Silent).await.unwrap();
    assert_eq!(made.failed(), 0, "{made:?}");
    raw.run(&format!("drop owned by {name}; drop role {name}")).await;
}

#[tokio::test]
async fn an_unknown_status_lets_nobody_in_and_is_named() {
    let (_database, db, raw) = fleet().await;
    let count =
        async |db: &Db| db.with_tenant(&slug("trial"), async |tx| Ok(tx.query("select 1", &[]).await?.len())).await;
    // The control.
    assert_eq!(count(&db).await.unwrap(), 1);
    raw.run(
        "alter table organizations alter status drop default, alter status type text using status::text, alter status drop not null;
         update organizations set status = E'tri\\nal' where slug = 'trial'",
    )
    .await;
    let error = count(&db).await.unwrap_err();
    assert!(
        matches!(&error, Error::Tenant(TenantError::StatusUnknown { status: TenantStatus::Other(text), .. }) if text == "tri\nal")
    );
    assert_eq!((error.code(), error.kind()), ("CGK0409", ErrorKind::Suspended));
    assert_eq!(error.to_string(), "tenant trial has the status tri\\nal; only active tenants can be entered");
    raw.run("update organizations set status = null where slug = 'trial'").await;
    assert!(
        matches!(count(&db).await.unwrap_err(), Error::Tenant(TenantError::StatusUnknown { status, .. }) if status.as_str() == "null")
    );
    raw.run("update organizations set status = 'active' where slug = 'trial'").await;
    assert_eq!(count(&db).await.unwrap(), 1);
}

#[tokio::test]
async fn the_commands_say_it_in_a_line_and_end_as_before() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    shell.transcript(&["setup:database -q", "tenant:create acme globex -q"]);
    let run = |command: &str| shell.run(&command.split(' ').collect::<Vec<_>>());
    let commands =
        ["tenant:list", "migrate:status --check", "migrate --check", "migrate", "tenant:verify --all", "drift"];
    let before: Vec<_> = commands.iter().map(|command| run(command)).collect();
    sql(
        &database,
        "insert into organizations (id, slug, name, status) values (gen_random_uuid(), 'Acme-Inc', 'Acme', 'active'),
             (gen_random_uuid(), E'bad\n\x1b[31m', 'Bad', 'archived'); update organizations set status = 'trial' where slug = 'globex'",
    )
    .await;
    for (command, before) in commands.iter().zip(before) {
        let after = run(command);
        assert_eq!(after.code, before.code, "{command}: {after:?}");
        let lines = |answer: &crate::support::cgk::Answer| {
            answer.stderr.matches("ignored a row of public.organizations").count()
        };
        assert_eq!((lines(&before), lines(&after)), (0, 2), "{command}: {after:?}");
        assert!(!after.stderr.contains("\u{1b}[31m") && after.stderr.contains("\"bad\\n\\u{1b}[31m\""), "{after:?}");
        let json = run(&format!("{command} --json"));
        let records: Vec<serde_json::Value> = match serde_json::from_str(&json.stdout) {
            Ok(one) => vec![one],
            Err(_) => json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        };
        let strange = records.iter().find_map(|record| record["strange"].as_array()).unwrap();
        assert_eq!(strange.len(), 2, "{command}: {json:?}");
        assert!(strange.iter().any(|row| row["slug"] == "Acme-Inc" && row["status"] == "active"), "{strange:?}");
    }
}

/// Every kind of strange row at once, through each command that works on one tenant or on all.
#[tokio::test]
async fn every_command_goes_on_beside_every_kind_of_strange_row() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    shell.transcript(&["setup:database -q", "tenant:create acme globex trial -q"]);
    let run = |command: &str| shell.run(&command.split(' ').collect::<Vec<_>>());
    let commands = [
        "tenant:create acme",
        "tenant:create acme globex",
        "tenant:verify acme",
        "tenant:verify trial",
        "tenant:verify --all",
        "tenant:list",
        "migrate",
        "migrate --check",
        "migrate:status --check",
        "drift",
        "setup:database -q",
    ];
    let before: Vec<_> = commands.iter().map(|command| run(command).code).collect();
    assert_eq!(before, [0; 11]);
    plant(&Raw::on(&database).await).await;
    for command in commands {
        let after = run(command);
        // A registry whose rules were taken away is drift, and for drift and verify alone.
        let expected = if command == "drift" { 7 } else { 0 };
        assert_eq!(after.code, expected, "{command}: {after:?}");
        assert!(!(after.stdout.clone() + &after.stderr).contains("\u{1b}[31m"), "{command}: {after:?}");
    }
    // What is made beside them is made as ever; what has such a row is refused by name.
    assert_eq!(run("tenant:create umbrella").code, 0);
    assert_eq!(run("tenant:verify umbrella").code, 0);
    for (command, code, said) in [
        ("tenant:create Acme-Inc", 2, "\"Acme-Inc\" is not a tenant slug"),
        ("tenant:create gone", 1, "tenant gone is arch\\nived, but its schema \"tenant_gone\" does not exist"),
        ("tenant:create trial", 0, "tenant trial exists: schema tenant_trial, and is trial"),
        ("tenant:verify gone", 0, "gone: not compared: its status is not known to this version, and it has no schema"),
    ] {
        let answer = run(command);
        assert_eq!(answer.code, code, "{command}: {answer:?}");
        assert!((answer.stdout.clone() + &answer.stderr).contains(said), "{command}: {answer:?}");
    }
}
