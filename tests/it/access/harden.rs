//! `setup::harden`: what it takes away, that it is idempotent, and that everything of cgk works on such a database.

use crate::{
    sandbox::{Files, login_role, migrate_all},
    stage::{Stage, as_login, slug},
    support::{cgk::Shell, score},
};
use cgk::{
    Config, Db, Error, ErrorKind, Operator, TransactionError,
    config::Isolation,
    drift, lifecycle,
    login::{self, LoginName, LoginOptions, SharedTables},
    migrate::{Migrations, Outcome, Scope},
    setup::{self, HardeningMode, Measure, MeasureState},
    testing::TestServer,
};

fn states(report: &setup::HardeningReport) -> Vec<MeasureState> {
    report.measures.iter().map(|measure| measure.state).collect()
}

async fn admit(operator: &Operator, name: &LoginName) -> cgk::Result<login::Admission> {
    let mut options = LoginOptions::default();
    options.shared_tables = Some(SharedTables::Registry);
    login::admit(operator, name, &options).await
}

/// What a text injected into a statement does with the rights that are taken away, as a tenant's role.
fn attacks(globex: &str) -> [String; 4] {
    [
        format!(
            "insert into marks select 'x' || set_config('role', '{globex}', true)
               || query_to_xml('select tag from tenant_globex.marks', true, false, '')::text, 1"
        ),
        format!("do $$ begin perform set_config('role', '{globex}', true); end $$"),
        format!(
            "do $$ begin set local role \"{globex}\"; insert into tenant_globex.marks (tag) values ('evil'); end $$"
        ),
        "create temporary table marks2 (tag text)".into(),
    ]
}

#[tokio::test]
async fn the_attacks_work_before_and_are_denied_after() {
    let stage = Stage::set().await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let operator = Operator::connect(&stage.config()).await.unwrap();
    let attempt = async |sql: &str| {
        let outcome = db
            .with_tenant(&slug("acme"), async |tx| {
                tx.execute_typed(sql, &[]).await?;
                // What is found by the check before the COMMIT does not count: the statement itself is asked about.
                Err::<(), _>(Error::Unexpected { doing: "attack".into(), found: "it ran".into() })
            })
            .await
            .unwrap_err();
        outcome.sqlstate().map(|state| state.code().to_owned())
    };
    for attack in attacks(&stage.role("globex")) {
        assert_eq!(attempt(&attack).await, None, "denied on a stock server: {attack}");
    }
    let planned = setup::harden(&operator, HardeningMode::DryRun).await.unwrap();
    assert_eq!(states(&planned), [MeasureState::Pending; 4]);
    for attack in attacks(&stage.role("globex")) {
        assert_eq!(attempt(&attack).await, None, "a dry run changed something: {attack}");
    }
    let applied = setup::harden(&operator, HardeningMode::Apply).await.unwrap();
    assert_eq!(states(&applied), [MeasureState::Applied; 4]);
    assert!(applied.is_complete() && !planned.is_complete());
    for (done, plan) in applied.measures.iter().zip(&planned.measures) {
        assert_eq!(done.statements, plan.statements);
    }
    assert_eq!(applied.measures[0].measure, Measure::SetConfig);
    for attack in attacks(&stage.role("globex")) {
        assert_eq!(attempt(&attack).await.as_deref(), Some("42501"), "{attack}");
    }
    score::note(2, "ways to another tenant and back in one statement on a hardened database, run", 4, 0, "");
    score::control(2, "the same on a server as it is installed", 4, 4, "each runs");
    let again = setup::harden(&operator, HardeningMode::Apply).await.unwrap();
    assert_eq!(states(&again), [MeasureState::InPlace; 4], "{again:?}");
    assert!(again.measures.iter().all(|measure| measure.statements.is_empty()));
    stage.next_user(&db, "globex").await;
}

/// An owner who is no superuser takes away what is the database's, and names the rest for a superuser.
#[tokio::test]
async fn what_the_operator_may_not_do_is_named() {
    let stage = Stage::set().await;
    let raw = crate::sandbox::Raw::on(&stage.database).await;
    let (owner, config) = login_role(&stage.database, &raw, "createrole").await;
    raw.run(&format!(
        "alter database {} owner to {owner}; alter table organizations owner to {owner}",
        stage.database.name()
    ))
    .await;
    raw.run(&format!("create policy to_owner on organizations to {owner} using (true)")).await;
    let operator = Operator::connect(&config).await.unwrap();
    let report = setup::harden(&operator, HardeningMode::Apply).await.unwrap();
    assert_eq!(
        states(&report),
        [MeasureState::NotAllowed, MeasureState::NotAllowed, MeasureState::Applied, MeasureState::NotAllowed],
        "{report:?}"
    );
    assert!(!report.is_complete());
    // The statements named are enough, run by a superuser.
    for measure in &report.measures {
        for statement in &measure.statements {
            raw.run(statement).await;
        }
    }
    let report = setup::harden(&operator, HardeningMode::Apply).await.unwrap();
    assert_eq!(states(&report), [MeasureState::InPlace; 4], "{report:?}");
}

/// On a hardened database an owner who is no superuser makes tenants, migrates, compares, lets in another login, and services
/// work, in both modes.
#[tokio::test]
async fn everything_works_on_a_hardened_database() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let database = TestServer::shared().database().await.unwrap();
        let raw = crate::sandbox::Raw::on(&database).await;
        let (owner, config) = login_role(&database, &raw, "createrole").await;
        // PostgreSQL 14 lets everyone create in public, which drift names and this owner may not take away.
        raw.run(&format!(
            "alter database {} owner to {owner}; grant all on schema public to {owner};
             revoke create on schema public from public",
            database.name()
        ))
        .await;
        let config: Config = config.with_isolation(isolation);
        let operator = Operator::connect(&config).await.unwrap();
        let bundled = Migrations::bundled();
        setup::setup(&operator, &bundled, &mut cgk::migrate::Silent).await.unwrap();
        let superuser = Operator::connect(&database.config().clone().with_isolation(isolation)).await.unwrap();
        let report = setup::harden(&superuser, HardeningMode::Apply).await.unwrap();
        assert!(report.is_complete(), "{report:?}");

        let files = Files::of_tenants(&[(
            "001_notes.sql",
            "create table notes (n int);
             create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
             create function one() returns int language sql as 'select 1';
             create trigger touch before insert on notes for each row execute function touch()",
        )]);
        let operator = Operator::connect(&config).await.unwrap();
        let owner_db = Db::connect(&config).await.unwrap();
        let options = lifecycle::CreateOptions::default();
        lifecycle::create(&operator, &owner_db, &files.load(), &slug("acme"), &options).await.unwrap();
        files.tenant("002_more.sql", "do $$ begin create table more (n int); end $$");
        let run = migrate_all(&operator, &files.load()).await.unwrap();
        assert!(run.tenants.iter().all(|tenant| matches!(tenant.result, Outcome::Migrated { .. })), "{run:?}");
        let drifted = drift::verify(&operator, &files.load(), &Scope::Everything).await.unwrap();
        assert!(!drifted.has_drift() && !drifted.has_busy(), "{isolation:?}: {drifted:?}");
        let tag = cgk::ident::DatabaseTag::of(database.name());
        let name: LoginName = format!("app_{}", tag.as_str()).parse().unwrap();
        let admission = admit(&operator, &name).await.unwrap();
        let service = as_login(&database.config().clone(), &admission).with_isolation(isolation);
        for db in [owner_db, Db::connect(&service).await.unwrap()] {
            let count = db
                .with_tenant(&slug("acme"), async |tx| {
                    tx.execute("insert into notes values (1)", &[]).await?;
                    Ok(tx.query_one("select count(*) + one() from notes", &[]).await?.get::<_, i64>(0))
                })
                .await
                .unwrap();
            assert!(count >= 2);
            // In the context of a request, which the transaction learns.
            let id: uuid::Uuid = raw.one("select id from organizations where slug = 'acme'").await;
            let user = cgk::UserId(uuid::Uuid::from_u128(7));
            let context = cgk::TenantContext::new(cgk::OrganizationId(id), slug("acme")).user(user, "a@b");
            let told = context.scope(async {
                let sql = "select current_setting('app.current_user_id', true)";
                let alone = db.current()?.query_one(sql, &[]).await?.try_get::<_, Option<String>>(0)?;
                let tenant = db.current()?;
                let within =
                    tenant.transaction(async |tx| Ok(tx.query_one(sql, &[]).await?.get::<_, Option<String>>(0)));
                Ok::<_, cgk::Error>((alone, within.await?))
            });
            assert_eq!(told.await.unwrap(), (Some(user.to_string()), Some(user.to_string())), "{isolation:?}");
        }
        let report = setup::harden(&superuser, HardeningMode::DryRun).await.unwrap();
        assert!(report.is_complete(), "{isolation:?}: {report:?}");
    }
}

#[tokio::test]
async fn the_command_says_what_it_does_and_nothing_twice() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    let planned = shell.run(&["setup:database", "--harden", "--dry-run", "--json"]);
    assert_eq!(planned.code, 3, "{}", planned.stderr);
    assert!(planned.stdout.contains("\"state\":\"pending\"") && planned.stdout.contains("revoke execute on function"));
    let done = shell.run(&["setup:database", "--harden"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("revoke temporary on database"), "{}", done.stdout);
    let again = shell.run(&["setup:database", "--harden", "--dry-run"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);
    assert_eq!(shell.run(&["setup:database", "--dry-run"]).code, 2);
}

#[tokio::test]
async fn without_a_registry_there_is_nothing_to_harden() {
    let database = TestServer::shared().database().await.unwrap();
    let error = setup::harden(&database.operator().await.unwrap(), HardeningMode::Apply).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
}

/// What text in a tenant's transaction comes to: `None` if it ran, the server's SQLSTATE, or `refused` before it was sent.
async fn attempt(db: &Db, sql: &str) -> Option<String> {
    let outcome = db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute_typed(sql, &[]).await?;
            Err::<(), _>(Error::Unexpected { doing: "attack".into(), found: "it ran".into() })
        })
        .await
        .unwrap_err();
    match outcome {
        Error::Transaction(TransactionError::StatementRefused { .. }) => Some("refused".to_owned()),
        outcome => outcome.sqlstate().map(|state| state.code().to_owned()),
    }
}

/// With a role per tenant, the text has to go to the login and back for it.
#[tokio::test]
async fn with_role_isolation_no_text_goes_to_the_login_and_back_to_change_it() {
    let stage = Stage::set().await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let (acme, login) = (stage.role("acme"), stage.app_name());
    let other = Db::connect(db.config()).await.unwrap();
    let rows = other.tenant(&slug("globex")).query_typed("select pg_backend_pid()", &[]).await.unwrap();
    let pid: i32 = rows[0].get(0);
    for sql in ["alter role current_user set work_mem = '1MB'".to_owned(), format!("alter user {login} password 'x'")] {
        assert_eq!(attempt(&db, &sql).await.as_deref(), Some("refused"), "{sql}");
    }
    let inner = [
        format!("alter role {login} set work_mem = '1MB'"),
        format!("alter role {login} password 'x'"),
        format!("perform pg_cancel_backend({pid})"),
        format!("perform pg_terminate_backend(pid) from pg_stat_activity where pid = {pid} and false"),
    ];
    let there_and_back =
        |inner: &str| format!("do $$ begin set local role none; {inner}; set local role \"{acme}\"; end $$");
    for (index, inner) in inner.iter().enumerate() {
        // As the tenant's role alone it is the server that denies it; ending nothing is no attack.
        if index < 3 {
            let alone = format!("do $$ begin {inner}; end $$");
            assert_eq!(attempt(&db, &alone).await.as_deref(), Some("42501"), "{alone}");
        }
        assert_eq!(attempt(&db, &there_and_back(inner)).await, None, "denied on a stock server: {inner}");
    }
    let operator = Operator::connect(&stage.config()).await.unwrap();
    setup::harden(&operator, HardeningMode::Apply).await.unwrap();
    for inner in &inner {
        assert_eq!(attempt(&db, &there_and_back(inner)).await.as_deref(), Some("42501"), "{inner}");
    }
    other.tenant(&slug("globex")).query_typed("select tag from marks", &[]).await.unwrap();
}

/// With path isolation the login itself runs the statements, and a login may change its own settings and password and end its
/// own sessions.
#[tokio::test]
async fn with_path_isolation_no_text_changes_the_login_or_ends_its_sessions() {
    let stage = Stage::set().await;
    let db = stage.app(Isolation::Path, SharedTables::Registry).await;
    let other = Db::connect(db.config()).await.unwrap();
    let rows = other.tenant(&slug("globex")).query_typed("select pg_backend_pid()", &[]).await.unwrap();
    let pid: i32 = rows[0].get(0);
    let login = stage.app_name();
    for sql in [
        "alter role current_user set work_mem = '1MB'".to_owned(),
        format!("alter user {login} password 'x'"),
        format!("alter role {login} in database {} reset all", stage.database.name()),
    ] {
        assert_eq!(attempt(&db, &sql).await.as_deref(), Some("refused"), "{sql}");
    }
    let attacks = [
        "do $$ begin alter role current_user set work_mem = '1MB'; end $$".to_owned(),
        "do $$ begin alter role current_user password 'x'; end $$".to_owned(),
        format!("select pg_cancel_backend({pid})"),
        format!("select pg_terminate_backend({pid}) from marks where false"),
    ];
    for attack in &attacks {
        assert_eq!(attempt(&db, attack).await, None, "denied on a stock server: {attack}");
    }
    let operator = Operator::connect(&stage.config()).await.unwrap();
    setup::harden(&operator, HardeningMode::Apply).await.unwrap();
    for attack in &attacks {
        assert_eq!(attempt(&db, attack).await.as_deref(), Some("42501"), "{attack}");
    }
    other.tenant(&slug("globex")).query_typed("select tag from marks", &[]).await.unwrap();
}
