//! Drift under path isolation: an admitted login has on every tenant's schema what cgk gives it, and nothing else. The control
//! of each: clean before, and clean again after the statement that is named.

use crate::{
    access::service_login::app_name,
    sandbox::{Files, Raw},
    stage::slug,
};
use cgk::{
    Config, Db, Operator,
    config::Isolation,
    drift::{self, Difference},
    lifecycle::{self, CreateOptions},
    login::{self, DirectRights, LoginOptions},
    migrate::{self, Migrations, Scope, Silent},
    setup::{self, IsolationChange},
    testing::{TestDatabase, TestServer},
};

struct Fleet {
    database: TestDatabase,
    operator: Operator,
    migrations: Migrations,
    raw: Raw,
    app: String,
}

impl Fleet {
    async fn made(isolation: Isolation) -> Self {
        let files = Files::of_tenants(&[(
            "001_notes.sql",
            "create table notes (id int generated always as identity, body text); create view titles as select body from notes;
             create type mood as enum ('good'); create function one() returns int language sql as 'select 1';
             create function two() returns int language sql as 'select 2'; revoke execute on function two() from public",
        )]);
        let database = TestServer::shared().database().await.unwrap();
        let config: Config = database.config().clone().with_isolation(isolation);
        let (operator, migrations) = (Operator::connect(&config).await.unwrap(), files.load());
        setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
        let app = app_name(&database);
        login::admit(&operator, &app, &LoginOptions::default()).await.unwrap();
        let db: Db = Db::connect(&config).await.unwrap();
        for tenant in ["acme", "globex"] {
            let options = CreateOptions::default();
            lifecycle::create(&operator, &db, &migrations, &slug(tenant), &options).await.unwrap();
        }
        let raw = Raw::on(&database).await;
        Self { database, operator, migrations, raw, app: app.as_str().to_owned() }
    }

    async fn found(&self, scope: &Scope) -> Vec<Difference> {
        self.found_by(&self.operator, scope).await
    }

    async fn found_by(&self, operator: &Operator, scope: &Scope) -> Vec<Difference> {
        let report = drift::verify(operator, &self.migrations, scope).await.unwrap();
        assert!(report.schemas().all(|schema| schema.not_compared.is_none()), "{report:?}");
        report.schemas().flat_map(|schema| schema.differences.clone()).chain(report.rights.clone()).collect()
    }
}

fn lines(found: &[Difference]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_logins_rights_are_what_cgk_gives() {
    let fleet = Fleet::made(Isolation::Path).await;
    let acme = Scope::Only(vec![slug("acme")]);
    for (sql, expected) in [
        ("grant truncate on tenant_acme.notes to {app}", "has truncate on table tenant_acme.notes"),
        (
            "grant select on tenant_acme.notes to {app} with grant option; set role {app}; \
             grant select on tenant_acme.notes to pg_monitor; reset role",
            "may pass on select on table tenant_acme.notes",
        ),
        (
            "alter default privileges in schema tenant_acme grant select on tables to {app} with grant option",
            "may pass on select on default rights on tables",
        ),
        ("grant select (body) on tenant_acme.notes to {app}", "has select on column body of table tenant_acme.notes"),
        ("grant create on schema tenant_acme to {app}", "has create on schema tenant_acme"),
        ("grant select on tenant_acme.schema_migrations to {app}", "has select on table tenant_acme.schema_migrations"),
        ("grant execute on function tenant_acme.two() to {app}", "has execute on function tenant_acme.two()"),
        ("grant usage on type tenant_acme.mood to {app}", "has usage on type tenant_acme.mood"),
        (
            "alter default privileges in schema tenant_acme grant truncate on tables to {app}",
            "has truncate on default rights on tables",
        ),
        ("revoke delete on tenant_acme.notes from {app}", "lacks delete on table tenant_acme.notes"),
        (
            "revoke all on tenant_acme.titles from {app}",
            "lacks delete, insert, select, update on table tenant_acme.titles",
        ),
        (
            "revoke usage on sequence tenant_acme.notes_id_seq from {app}",
            "lacks usage on sequence tenant_acme.notes_id_seq",
        ),
        ("revoke usage on schema tenant_acme from {app}", "lacks usage on schema tenant_acme"),
        (
            "alter default privileges in schema tenant_acme revoke update on sequences from {app}",
            "lacks update on default rights on sequences",
        ),
    ] {
        assert_eq!(lines(&fleet.found(&Scope::Everything).await), Vec::<String>::new(), "before {sql}");
        fleet.raw.run(&sql.replace("{app}", &fleet.app)).await;
        for scope in [&Scope::Everything, &acme] {
            let found = fleet.found(scope).await;
            let expected = format!("login {}: {expected}", fleet.app);
            let is_only = found.len() == 1 || sql.contains("pg_monitor") && found.len() == 2;
            assert!(is_only && found[0].to_string().starts_with(&expected), "{sql}: {:?}", lines(&found));
        }
        assert_eq!(lines(&fleet.found(&Scope::Only(vec![slug("globex")])).await), Vec::<String>::new());
        // The login keeps what it may have, and what it passed on goes with the option.
        let fix = fleet.found(&acme).await.remove(0).fix.remove(0).sql;
        fleet.raw.run(&fix).await;
    }
    assert_eq!(lines(&fleet.found(&Scope::Everything).await), Vec::<String>::new());
    drop(fleet.database);
}

/// Under role isolation the login acts as the tenants' roles and has no right of its own.
#[tokio::test]
async fn a_login_has_no_right_on_a_tenants_schema_under_role_isolation() {
    let fleet = Fleet::made(Isolation::Role).await;
    for (sql, expected) in [
        ("grant select on tenant_acme.notes to {app}", "table notes: grants are {app}: select"),
        ("grant select (body) on tenant_acme.notes to {app}", "column notes.body: grants are {app}: select"),
        ("grant usage on schema tenant_acme to {app}", "schema: grants are {app}: usage"),
        ("grant usage on sequence tenant_acme.notes_id_seq to {app}", "sequence notes_id_seq: grants are {app}: usage"),
        ("grant execute on function tenant_acme.two() to {app}", "function two(): grants are {app}: execute"),
        ("grant usage on type tenant_acme.mood to {app}", "type mood: grants are {app}: usage"),
        (
            "alter default privileges in schema tenant_acme grant select on tables to {app}",
            "default rights tables: grants are {app}: select",
        ),
    ] {
        let filled = |text: &str| text.replace("{app}", &fleet.app);
        let acme = Scope::Only(vec![slug("acme")]);
        assert_eq!(lines(&fleet.found(&acme).await), Vec::<String>::new(), "before {sql}");
        fleet.raw.run(&filled(sql)).await;
        let found = lines(&fleet.found(&acme).await);
        assert!(found.len() == 1 && found[0].contains(&filled("{app}: ")), "{sql}: {found:?}");
        assert!(found[0].starts_with(filled(expected).split(" are ").next().unwrap()), "{sql}: {found:?}");
        // What a person would run: the comparison's own statement.
        let fix = fleet.found(&acme).await.remove(0).fix.remove(0).sql;
        fleet.raw.run(&fix).await;
    }
}

/// Between the two steps of a change of the isolation, the rights of both are right, and after it the tenants' former roles
/// keep theirs.
#[tokio::test]
async fn a_change_of_the_isolation_is_no_drift() {
    let fleet = Fleet::made(Isolation::Role).await;
    let config = |isolation| fleet.database.config().clone().with_isolation(isolation);
    let operator = async |isolation| Operator::connect(&config(isolation)).await.unwrap();
    // A run of migrations rehearses, and so records what the other isolation gives.
    let change = async |isolation, step| {
        setup::change_isolation(&config(isolation), step).await.unwrap();
        migrate::rehearse(&operator(isolation).await, &fleet.migrations).await.unwrap();
    };
    let admit = async |isolation, direct| {
        let mut options = LoginOptions::default();
        options.direct_rights = direct;
        login::admit(&operator(isolation).await, &fleet.app.parse().unwrap(), &options).await.unwrap();
    };
    let (role, path) = (Isolation::Role, Isolation::Path);
    let clean = async |isolation: Isolation, when: &str| {
        for scope in [Scope::Everything, Scope::Only(vec![slug("acme")])] {
            // Twice: the second comparison uses what the first one stored.
            for _ in 0..2 {
                let found = fleet.found_by(&operator(isolation).await, &scope).await;
                assert_eq!(lines(&found), Vec::<String>::new(), "{isolation:?}, {when}");
            }
        }
    };
    // The control: what no isolation gives is named, and what fixes it leaves the rest.
    let named = async |isolation: Isolation, when: &str| {
        for (sql, expected) in [
            ("grant truncate on tenant_acme.notes to {app}", "has truncate on table tenant_acme.notes"),
            ("grant select on tenant_acme.notes to pg_monitor", "table notes: grants are pg_monitor: select"),
        ] {
            fleet.raw.run(&sql.replace("{app}", &fleet.app)).await;
            let found = fleet.found_by(&operator(isolation).await, &Scope::Everything).await;
            assert!(
                found.len() == 1 && found[0].to_string().contains(expected),
                "{isolation:?}, {when}, {sql}: {:?}",
                lines(&found)
            );
            fleet.raw.run(&found[0].fix[0].sql).await;
        }
        clean(isolation, when).await;
    };

    clean(role, "before").await;
    change(path, IsolationChange::Start).await;
    admit(path, DirectRights::Keep).await;
    // The precondition.
    let usage = format!("select has_schema_privilege('{}', 'tenant_acme', 'usage')", fleet.app);
    assert!(fleet.raw.one::<bool>(&usage).await);
    for isolation in [role, path] {
        clean(isolation, "while it changes to path").await;
        named(isolation, "while it changes to path").await;
    }
    // One that only the roles let in has no rights here either but those that cgk gives.
    let other: login::LoginName = format!("{}_2", fleet.app).parse().unwrap();
    login::admit(&operator(role).await, &other, &LoginOptions::default()).await.unwrap();
    for isolation in [role, path] {
        clean(isolation, "with a login of the roles").await;
        fleet.raw.run(&format!("grant select, truncate on tenant_acme.notes to {other}")).await;
        let found = fleet.found_by(&operator(isolation).await, &Scope::Everything).await;
        let expected = format!("login {other}: has truncate on table tenant_acme.notes");
        assert!(found.len() == 1 && found[0].to_string().starts_with(&expected), "{isolation:?}: {:?}", lines(&found));
        fleet.raw.run(&format!("revoke select, truncate on tenant_acme.notes from {other}")).await;
    }
    admit(path, DirectRights::Keep).await;
    login::admit(&operator(path).await, &other, &LoginOptions::default()).await.unwrap();
    change(path, IsolationChange::Finish).await;
    let former = "select count(*) from pg_namespace n, aclexplode(n.nspacl) a join pg_roles r on r.oid = a.grantee \
                  where n.nspname = 'tenant_acme' and r.rolname like 'cgk_acme_%'";
    assert_eq!(fleet.raw.one::<i64>(former).await, 1, "the precondition");
    named(path, "under path").await;

    change(role, IsolationChange::Start).await;
    for isolation in [path, role] {
        named(isolation, "while it changes to role").await;
    }
    admit(role, DirectRights::Keep).await;
    named(role, "while it changes to role, with the login admitted").await;
    let mut revoke = LoginOptions::default();
    revoke.direct_rights = DirectRights::Revoke;
    login::admit(&operator(role).await, &other, &revoke).await.unwrap();
    setup::finish_before_revoking(&config(role), &fleet.app.parse().unwrap()).await.unwrap();
    migrate::rehearse(&operator(role).await, &fleet.migrations).await.unwrap();
    let found = lines(&fleet.found_by(&operator(role).await, &Scope::Everything).await);
    assert!(found.iter().any(|line| line.contains(&format!("{}: usage", fleet.app))), "direct rights: {found:?}");
    admit(role, DirectRights::Revoke).await;
    clean(role, "after all").await;
}

/// What everyone may do in the tenants' schemas and the shared one, whatever the isolation.
#[tokio::test]
async fn what_everyone_may_do_is_compared_under_each_isolation() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let fleet = Fleet::made(isolation).await;
        assert_eq!(lines(&fleet.found(&Scope::Everything).await), Vec::<String>::new(), "{isolation:?}");
        for (sql, back, expected) in [
            (
                "grant select on tenant_acme.notes to public",
                "revoke select on tenant_acme.notes from public",
                "table notes: grants are everyone: select",
            ),
            (
                "grant select (body) on tenant_acme.notes to public",
                "revoke select (body) on tenant_acme.notes from public",
                "column notes.body: grants are everyone: select",
            ),
            (
                "grant usage on sequence tenant_acme.notes_id_seq to public",
                "revoke usage on sequence tenant_acme.notes_id_seq from public",
                "sequence notes_id_seq: grants are everyone: usage",
            ),
            (
                "grant usage on schema tenant_acme to public",
                "revoke usage on schema tenant_acme from public",
                "schema: grants are everyone: usage",
            ),
            (
                "grant execute on function tenant_acme.two() to public",
                "revoke execute on function tenant_acme.two() from public",
                "function two(): grants are everyone: execute",
            ),
            (
                "revoke execute on function tenant_acme.one() from public",
                "grant execute on function tenant_acme.one() to public",
                "function one(): no grants, migrations give everyone: execute",
            ),
            (
                "grant delete on public.users to public",
                "revoke delete on public.users from public",
                "table users: grants are everyone: delete",
            ),
            (
                "grant select (password_hash) on public.users to public",
                "revoke select (password_hash) on public.users from public",
                "column users.password_hash: grants are everyone: select",
            ),
        ] {
            fleet.raw.run(sql).await;
            let found = lines(&fleet.found(&Scope::Everything).await);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{isolation:?}, {sql}: {found:?}");
            fleet.raw.run(back).await;
        }
        assert_eq!(lines(&fleet.found(&Scope::Everything).await), Vec::<String>::new(), "{isolation:?}");
        fleet.raw.run("revoke execute on function public.current_tenant_slug() from public").await;
        let found = lines(&fleet.found(&Scope::Everything).await);
        assert!(found.len() == 1 && found[0].starts_with("function current_tenant_slug()"), "{isolation:?}: {found:?}");
    }
}
