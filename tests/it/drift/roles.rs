//! Drift in roles: every right, membership and setting that a tenant's role or a service's login must not have is named,
//! with a statement that takes it away. The control of each: clean before, and clean again after that statement.

use crate::{
    access::service_login::app_name,
    sandbox::{Files, Raw, login_role, tenants},
    stage::slug,
    support::{cgk::Shell, score},
};
use cgk::{
    Operator,
    config::Isolation,
    drift::{self, Difference, DriftReport},
    ident::{DatabaseTag, Ident, RoleName},
    lifecycle::{self, RenameOptions},
    login::{self, LoginOptions, PasswordChange, SharedTables},
    migrate::{Migrations, Scope},
    testing::{TestDatabase, TestServer},
};
use std::time::Duration;

/// What is done by hand to the role of acme, and how the line begins that names it. `{globex}` is another tenant's role,
/// `{app}` an admitted login, `{stray}` one that nobody admitted, `{persons}` and `{support}` the roles of readers, `{database}`
/// the database.
const PLANTED: &[(&str, &str)] = &[
    ("grant pg_read_all_data to {acme}", "role {acme}: is a member of pg_read_all_data, and may do what that may"),
    ("grant {globex} to {acme}", "role {acme}: is a member of {globex}, and may do what that may"),
    ("grant {acme} to {globex}", "role {acme}: another tenant's role, {globex}, may act as it: a hole in isolation"),
    (
        "grant {acme} to {stray}",
        "role {acme}: role {stray} may act as it, and no `setup:database --app-role` admitted that role",
    ),
    (
        "grant {acme} to {app} with admin option",
        "role {acme}: role {app} may make any role a member of it: a hole in isolation",
    ),
    (
        "grant {acme} to {stray} with admin option",
        "role {acme}: role {stray} may make any role a member of it: a hole in isolation",
    ),
    // From PostgreSQL 16 on only who has granted a membership, or acts as it, can take it away.
    (
        "grant {acme} to {app} with admin option; set role {app}; grant {acme} to {stray}; reset role",
        "role {acme}: role {stray} may act as it, and no `setup:database --app-role` admitted that role",
    ),
    ("grant {app} to {stray}", "login {app}: role {stray} may act as it, and so as every tenant: a hole in isolation"),
    ("alter role {acme} superuser", "role {acme}: may do anything"),
    ("alter role {acme} login", "role {acme}: may log in"),
    ("alter role {acme} createrole", "role {acme}: may make roles"),
    ("alter role {acme} createdb", "role {acme}: may make databases"),
    ("alter role {acme} replication", "role {acme}: may read the write-ahead log"),
    ("alter role {acme} bypassrls", "role {acme}: may bypass policies"),
    ("alter role {acme} inherit", "role {acme}: inherits the rights of roles that it is a member of"),
    ("alter role {acme} set search_path = tenant_globex", "role {acme}: has the setting search_path=tenant_globex"),
    (
        "alter role {acme} in database {database} set row_security = off",
        "role {acme}: has the setting row_security=off in this database",
    ),
    (
        "alter role {acme} set app.current_organization_id = 'x'",
        "role {acme}: has the setting app.current_organization_id=x",
    ),
    ("grant select on public.users to {acme}", "role {acme}: has rights on table public.users, outside of its schema"),
    (
        "grant select (password_hash) on public.users to {acme}",
        "role {acme}: has rights on table column public.users.password_hash, outside of its schema",
    ),
    (
        "grant select on tenant_globex.orders to {acme}",
        "role {acme}: has rights on table tenant_globex.orders, outside",
    ),
    ("grant usage on schema tenant_globex to {acme}", "role {acme}: has rights on schema tenant_globex, outside"),
    ("grant create on database {database} to {acme}", "role {acme}: has rights on database {database}, outside"),
    (
        "alter default privileges in schema public grant select on tables to {acme}",
        "role {acme}: has rights on default acl",
    ),
    ("create table public.taken (); alter table public.taken owner to {acme}", "role {acme}: owns table public.taken"),
    (
        "select lo_create(9191); grant select on large object 9191 to {acme}",
        "role {acme}: has rights on large object 9191, outside of its schema",
    ),
    ("select lo_create(9192); alter large object 9192 owner to {acme}", "role {acme}: owns large object 9192"),
    (
        "select lo_create(9193); grant select on large object 9193 to public",
        "role public (everyone): has rights on large object 9193, which every tenant has too",
    ),
    ("grant usage on language plpgsql to {acme}", "role {acme}: has rights on language plpgsql, outside"),
    ("grant create on tablespace pg_default to {acme}", "role {acme}: has rights on tablespace pg_default, outside"),
    (
        "create foreign data wrapper cgk_w; grant usage on foreign data wrapper cgk_w to {acme}",
        "role {acme}: has rights on foreign-data wrapper cgk_w, outside",
    ),
    (
        "grant usage on foreign data wrapper cgk_w to public",
        "role public (everyone): has rights on foreign-data wrapper cgk_w, which every tenant has too",
    ),
    (
        "create server cgk_s foreign data wrapper cgk_w; grant usage on foreign server cgk_s to {acme}",
        "role {acme}: has rights on server cgk_s, outside",
    ),
    (
        "grant usage on foreign server cgk_s to public",
        "role public (everyone): has rights on server cgk_s, which every tenant has too",
    ),
    (
        "create schema far; create function far.f() returns int language sql return 1; grant execute on function far.f() to {acme}",
        "role {acme}: has rights on function far.f(), outside",
    ),
    (
        "create procedure far.p() language sql begin atomic select 1; end; grant execute on procedure far.p() to {acme}",
        "role {acme}: has rights on procedure far.p(), outside",
    ),
    (
        "create aggregate far.a(int) (sfunc = int4pl, stype = int); grant execute on function far.a(int) to {acme}",
        "role {acme}: has rights on aggregate far.a(integer), outside",
    ),
    (
        "create type far.t as enum ('x'); grant usage on type far.t to {acme}",
        "role {acme}: has rights on type far.t, outside",
    ),
    (
        "create domain far.d as int; grant usage on domain far.d to {acme}",
        "role {acme}: has rights on type far.d, outside",
    ),
    (
        "create sequence far.s; grant usage on sequence far.s to {acme}",
        "role {acme}: has rights on sequence far.s, outside",
    ),
    (
        "create view far.v as select 1; grant select on far.v to {acme}",
        "role {acme}: has rights on view far.v, outside",
    ),
    (
        "create materialized view far.m as select 1; grant select on far.m to {acme}",
        "role {acme}: has rights on materialized view far.m, outside",
    ),
    (
        "create table far.odd (\"a.b\" int); grant select (\"a.b\") on far.odd to {acme}",
        "role {acme}: has rights on table column far.odd.\"a.b\", outside",
    ),
    ("alter view far.v owner to {acme}", "role {acme}: owns view far.v"),
    ("alter materialized view far.m owner to {acme}", "role {acme}: owns materialized view far.m"),
    ("alter procedure far.p() owner to {acme}", "role {acme}: owns procedure far.p()"),
    ("alter domain far.d owner to {acme}", "role {acme}: owns type far.d"),
    (
        "alter default privileges for role {acme} grant all on tables to public",
        "role {acme}: owns default acl for role {acme} on tables",
    ),
    (
        "alter default privileges for role {acme} revoke all on tables from {acme}",
        "role {acme}: owns default acl for role {acme} on tables",
    ),
    (
        "alter default privileges for role {acme} revoke execute on functions from public",
        "role {acme}: owns default acl for role {acme} on functions",
    ),
    (
        "alter default privileges for role {acme} grant usage on types to {globex} with grant option",
        "role {acme}: owns default acl for role {acme} on types",
    ),
    (
        "alter default privileges for role {acme} in schema public grant select on tables to {stray}",
        "role {acme}: owns default acl for role {acme} in schema public on tables",
    ),
    ("alter schema tenant_acme owner to {acme}", "role {acme}: owns schema tenant_acme"),
    (
        "grant insert on tenant_acme.schema_migrations to {acme}",
        "ledger schema_migrations: the tenant's role may write it",
    ),
    (
        "grant select on tenant_acme.schema_migrations to {acme}",
        "ledger schema_migrations: the tenant's role has select on it",
    ),
    ("grant pg_read_all_data to {app}", "login {app}: is a member of pg_read_all_data, which is not a tenant's role"),
    ("alter role {app} superuser", "login {app}: may do anything"),
    ("alter role {app} createrole", "login {app}: may make roles"),
    ("alter role {app} createdb", "login {app}: may make databases"),
    ("alter role {app} replication", "login {app}: may read the write-ahead log"),
    ("alter role {app} bypassrls", "login {app}: may bypass policies"),
    ("alter role {app} set search_path = public", "login {app}: has the setting search_path=public"),
    ("alter role {app} set role = {globex}", "login {app}: has the setting role={globex}"),
    (
        "alter role {app} set app.current_organization_id = 'x'",
        "login {app}: has the setting app.current_organization_id=x",
    ),
    (
        "alter role {app} in database {database} reset search_path",
        "login {app}: has no empty search path in this database",
    ),
    ("grant create on schema public to {app}", "login {app}: may create objects in schema public"),
    (
        "grant insert on tenant_acme.schema_migrations to {app}",
        "login {app}: may write the ledger tenant_acme.schema_migrations",
    ),
    (
        "grant update (name) on public.schema_migrations to {app}; grant truncate on public.schema_migrations to {app}",
        "login {app}: may write the ledger public.schema_migrations",
    ),
    (
        "grant truncate, trigger on public.users to {app}",
        "login {app}: has trigger, truncate on public.users, which cgk gives no login",
    ),
    (
        "grant references on public.organizations to {app}",
        "login {app}: has references on public.organizations, which cgk gives no login",
    ),
    (
        "grant select on public.cgk_references to {app}",
        "login {app}: has select on public.cgk_references, which cgk gives no login",
    ),
    (
        "grant select on public.users to {app} with grant option; set role {app}; grant select on public.users to {stray}; reset role",
        "login {app}: may pass on select on public.users, which cgk lets no login do",
    ),
    (
        "grant select (slug) on public.organizations to {app} with grant option",
        "login {app}: may pass on select (slug) on public.organizations, which cgk lets no login do",
    ),
    ("grant create on database {database} to {app}", "login {app}: may create objects in database {database}"),
    ("create table public.hers (); alter table public.hers owner to {app}", "login {app}: owns table public.hers"),
    (
        "create foreign data wrapper cgk_x; create server cgk_y foreign data wrapper cgk_x; grant usage on foreign server cgk_y to {app}",
        "login {app}: has rights on server cgk_y, which cgk gives no login",
    ),
    (
        "grant usage on foreign data wrapper cgk_x to {app}",
        "login {app}: has rights on foreign-data wrapper cgk_x, which cgk gives no login",
    ),
    (
        "select lo_create(9194); grant select on large object 9194 to {app}",
        "login {app}: has rights on large object 9194, which cgk gives no login",
    ),
    (
        "grant create on tablespace pg_default to {app}",
        "login {app}: has rights on tablespace pg_default, which cgk gives no login",
    ),
    (
        "grant usage on language plpgsql to {app}",
        "login {app}: has rights on language plpgsql, which cgk gives no login",
    ),
    ("alter role {persons} superuser", "role {persons}: may do anything"),
    ("alter role {persons} bypassrls", "role {persons}: may bypass policies"),
    ("alter role {support} login", "role {support}: may log in"),
    ("alter role {support} createrole", "role {support}: may make roles"),
    ("alter role {support} inherit", "role {support}: inherits the rights of roles that it is a member of"),
    (
        "grant pg_read_all_data to {support}",
        "role {support}: is a member of pg_read_all_data, and may do what that may",
    ),
    (
        "grant {support} to {stray}",
        "role {support}: role {stray} may act as it, and no `setup:database --app-role` admitted that role",
    ),
    (
        "grant {persons} to {acme}",
        "role {persons}: role {acme} may act as it, and no `setup:database --app-role` admitted that role",
    ),
    (
        "grant {support} to {persons}",
        "role {support}: another reader's role, {persons}, may act as it: a hole in isolation",
    ),
    (
        "grant {support} to {app} with admin option",
        "role {support}: role {app} may make any role a member of it: a hole in isolation",
    ),
    ("alter role {persons} set app.current_user_id = 'x'", "role {persons}: has the setting app.current_user_id=x"),
    (
        "grant select on public.sessions to {persons}",
        "role {persons}: has rights on table public.sessions, which cgk does not give it: a hole in isolation",
    ),
    (
        "grant select (token_hash) on public.sessions to {support}",
        "role {support}: has rights on table column public.sessions.token_hash, which cgk does not give it",
    ),
    (
        "grant usage on schema tenant_acme to {support}",
        "role {support}: has rights on schema tenant_acme, which cgk does not give it",
    ),
    ("select lo_create(9195); alter large object 9195 owner to {persons}", "role {persons}: owns large object 9195"),
    ("grant create on schema public to public", "role public (everyone): may create objects in schema public"),
    (
        "grant create on database {database} to public",
        "role public (everyone): may create objects in database {database}",
    ),
    (
        "revoke usage on schema public from public",
        "role public (everyone): may not use schema public, nor may 2 of the tenants' roles: their statements find nothing",
    ),
    ("grant all on public.cgk_references to public", "table public.cgk_references: everyone has delete, insert, "),
    ("grant select (fingerprint) on public.cgk_stamps to public", "table public.cgk_stamps: everyone has select on it"),
    (
        "grant select, insert, delete on public.cgk_rehearsals to {stray}",
        "table public.cgk_rehearsals: {stray} has delete, insert on it",
    ),
    ("grant update (context) on public.cgk_references to {app}", "table public.cgk_references: {app} has update on it"),
    ("grant trigger on public.cgk_stamps to {stray}", "table public.cgk_stamps: {stray} has trigger on it"),
    ("alter table public.cgk_references owner to {stray}", "table public.cgk_references: is owned by {stray}"),
    (
        "create trigger t before delete on public.cgk_references for each row execute function suppress_redundant_updates_trigger()",
        "table public.cgk_references: has the trigger t",
    ),
    ("create rule r as on delete to public.cgk_stamps do instead nothing", "table public.cgk_stamps: has the rule r"),
    ("create policy p on public.cgk_database using (true)", "table public.cgk_database: has the policy p"),
    (
        "alter table public.cgk_database enable row level security, force row level security",
        "table public.cgk_database: row security is on",
    ),
    (
        "alter default privileges grant select on tables to public",
        "default rights tables in every schema: everyone gets select on all that postgres creates",
    ),
    (
        "alter default privileges grant insert on tables to {stray}",
        "default rights tables in every schema: {stray} gets insert on all that postgres creates",
    ),
];

fn ends(shell: &Shell, arguments: &[&str], code: i32) {
    let answer = shell.run(arguments);
    assert_eq!(answer.code, code, "{}", shell.shown(arguments, &answer));
}

struct Fleet {
    database: TestDatabase,
    migrations: Migrations,
    operator: Operator,
    raw: Raw,
    app: String,
    stray: String,
}

impl Fleet {
    async fn made() -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let migrations = Migrations::bundled();
        let operator = tenants(&database, &migrations, &["acme", "globex"]).await;
        let name = app_name(&database);
        login::admit(&operator, &name, &LoginOptions::default()).await.unwrap();
        let raw = Raw::on(&database).await;
        let (stray, _) = login_role(&database, &raw, "noinherit").await;
        Self { app: name.as_str().to_owned(), database, migrations, operator, raw, stray }
    }

    fn filled(&self, text: &str) -> String {
        let tag = DatabaseTag::of(self.database.name());
        let role = |tenant: &str| RoleName::of_tenant(&slug(tenant), &tag).as_str().to_owned();
        let owner = self.operator.facts().role.as_str();
        text.replace("{acme}", &role("acme"))
            .replace("{globex}", &role("globex"))
            .replace("{persons}", &format!("cgk__user_{}", tag.as_str()))
            .replace("{support}", &format!("cgk__admin_{}", tag.as_str()))
            .replace("{app}", &self.app)
            .replace("{stray}", &self.stray)
            .replace("{database}", self.database.name())
            .replace("postgres creates", &format!("{owner} creates"))
    }

    async fn report(&self) -> DriftReport {
        drift::verify(&self.operator, &self.migrations, &Scope::Everything).await.unwrap()
    }
}

fn all(report: &DriftReport) -> Vec<&Difference> {
    report.schemas().flat_map(|schema| &schema.differences).chain(&report.rights).chain(&report.strays).collect()
}

fn lines(report: &DriftReport) -> Vec<String> {
    all(report).iter().map(ToString::to_string).collect()
}

/// From PostgreSQL 15 on: rights on parameters.
const PLANTED_15: &[(&str, &str)] = &[
    (
        "grant set on parameter log_min_messages to {acme}",
        "role {acme}: has rights on parameter log_min_messages, outside of its schema",
    ),
    (
        "grant set on parameter session_replication_role to {app}",
        "login {app}: has rights on parameter session_replication_role, which cgk gives no login",
    ),
];

#[tokio::test]
async fn every_wrong_right_is_named_and_its_fix_takes_it_away() {
    let fleet = Fleet::made().await;
    fleet.raw.run(&fleet.filled("select public.cgk_admit_reader('{app}'); grant {support} to {app}")).await;
    let further = if fleet.operator.facts().major() >= 15 { PLANTED_15 } else { &[] };
    for (number, (sql, expected)) in PLANTED.iter().chain(further).enumerate() {
        // A comparison takes most of the time of this test.
        if number % 8 == 0 {
            assert_eq!(lines(&fleet.report().await), Vec::<String>::new(), "left by one of the eight before {sql}");
        }
        fleet.raw.run(&fleet.filled(sql)).await;
        let report = fleet.report().await;
        let found = all(&report);
        let expected = fleet.filled(expected);
        let named = found.iter().find(|one| one.to_string().starts_with(&expected));
        let named = named.unwrap_or_else(|| panic!("{sql}\nfound    {:#?}\nexpected {expected}", lines(&report)));
        assert!(!named.fix.is_empty() && report.has_drift(), "{sql}");
        let about_rights = |one: &&&drift::Difference| matches!(one.change, drift::Change::Wrong { .. });
        for fix in found.iter().filter(about_rights).flat_map(|one| &one.fix) {
            fleet.raw.run(&fix.sql).await;
        }
        if sql.contains("create table") {
            fleet.raw.run("drop table if exists public.taken, public.hers").await;
        }
        if sql.contains("alter schema") {
            // Its owner had rights of its own before.
            fleet.raw.run(&fleet.filled("grant usage on schema tenant_acme to {acme}")).await;
        }
    }
    assert_eq!(lines(&fleet.report().await), Vec::<String>::new(), "left by the last");
    let planted = PLANTED.len() + further.len();
    score::note(
        15,
        "rights, memberships and settings given by hand, not named",
        planted,
        0,
        "each gone by its own fix",
    );
}

/// A schema of extensions is in every search path: who may create there is named, as in `public`.
#[tokio::test]
async fn who_may_create_in_a_schema_of_extensions_is_named() {
    let mut fleet = Fleet::made().await;
    fleet.raw.run("create schema \"Ext\"; grant usage on schema \"Ext\" to public").await;
    let planted = [
        ("{app}", "login {app}: may create objects in schema Ext, which is in every search path"),
        ("public", "role public (everyone): may create objects in schema Ext, which is in every search path"),
        ("{acme}", "role {acme}: has rights on schema \"Ext\", outside of its schema"),
    ];
    let grant = |whom: &str| fleet.filled(&format!("grant create on schema \"Ext\" to {whom}"));
    // The control: of a schema that is in no search path only a tenant's role is asked about.
    fleet.raw.run(&grant("{app}, public")).await;
    assert_eq!(lines(&fleet.report().await), Vec::<String>::new());
    fleet.raw.run(&fleet.filled("revoke create on schema \"Ext\" from {app}, public")).await;
    let config = fleet.database.config().clone().with_search_path([Ident::new("Ext").unwrap()]);
    fleet.operator = Operator::connect(&config).await.unwrap();
    for (whom, expected) in planted {
        assert_eq!(lines(&fleet.report().await), Vec::<String>::new(), "before {whom}");
        fleet.raw.run(&fleet.filled(&format!("grant create on schema \"Ext\" to {whom}"))).await;
        let report = fleet.report().await;
        let found = all(&report);
        let expected = fleet.filled(expected);
        let named = found.iter().find(|one| one.to_string().starts_with(&expected));
        let named = named.unwrap_or_else(|| panic!("{whom}\nfound    {:#?}\nexpected {expected}", lines(&report)));
        for fix in &named.fix {
            fleet.raw.run(&fix.sql).await;
        }
    }
    assert_eq!(lines(&fleet.report().await), Vec::<String>::new());
}

/// Rights of single roles that weaken nothing, and what cgk itself gives everyone on its table of former slugs.
#[tokio::test]
async fn what_may_be_granted_beside_the_migrations_is_no_drift() {
    let fleet = Fleet::made().await;
    let options = RenameOptions::default().slug(slug("initech")).keep_alias(Duration::from_secs(3_600));
    lifecycle::rename(&fleet.operator, &slug("globex"), &options).await.unwrap();
    let initech = fleet.filled("{acme}").replacen("acme", "initech", 1);
    for sql in [
        "grant usage on schema public to {acme}, {initech}, {stray}; revoke usage on schema public from public",
        "grant select on public.cgk_references, public.cgk_rehearsals to {stray}",
        "grant select, insert, update, delete, truncate on public.cgk_stamps to {stray}",
    ] {
        fleet.raw.run(&fleet.filled(&sql.replace("{initech}", &initech))).await;
        assert_eq!(lines(&fleet.report().await), Vec::<String>::new(), "{sql}");
    }
    // The control: less, or more, is named.
    for (sql, expected) in [
        (
            "revoke usage on schema public from {initech}",
            "role public (everyone): may not use schema public, nor may 1 of",
        ),
        (
            "grant usage on schema public to {acme} with grant option",
            "role {acme}: has rights on schema public, outside",
        ),
        // It keeps USAGE, which no one else gives it here.
        ("grant create on schema public to {acme}", "role {acme}: has rights on schema public, outside"),
        ("grant select on public.cgk_aliases to public", "table public.cgk_aliases: everyone has select on it"),
        ("grant update (slug) on public.cgk_aliases to public", "table public.cgk_aliases: everyone has update on it"),
        ("alter table public.cgk_aliases disable row level security", "table public.cgk_aliases: row security is off"),
    ] {
        fleet.raw.run(&fleet.filled(&sql.replace("{initech}", &initech))).await;
        let report = fleet.report().await;
        let [named] = &all(&report)[..] else { panic!("{sql}: {:#?}", lines(&report)) };
        assert!(named.to_string().starts_with(&fleet.filled(expected)), "{sql}: {named}");
        for fix in &named.fix {
            fleet.raw.run(&fix.sql).await;
        }
        assert_eq!(lines(&fleet.report().await), Vec::<String>::new(), "after {sql}");
    }
    let rights = "select string_agg(attname, ' ' order by attnum) from pg_attribute where attrelid = 'cgk_aliases'::regclass and attacl is not null";
    assert_eq!(fleet.raw.one::<String>(rights).await, "slug organization_id expires_at");
}

/// An admitted login keeps the membership, with which it enters tenants: the fix of an inherited membership takes the inheritance
/// only, and a membership that is missing, or has no SET, is a difference itself.
#[tokio::test]
async fn the_membership_of_an_admitted_login_is_neither_lost_nor_overlooked() {
    let fleet = Fleet::made().await;
    let major = fleet.operator.facts().major();
    let enters = fleet.filled("select pg_has_role('{app}', '{acme}', 'MEMBER')");
    let enters = if major >= 16 { enters.replace("MEMBER", "SET") } else { enters };
    let (inherits, lacks) = (
        "role {acme}: role {app} has all its rights without acting as it",
        "role {acme}: login {app} may not act as it: a service with this login cannot enter the tenant",
    );
    let mut planted = vec![("revoke {acme} from {app}", lacks, false)];
    match major {
        16.. => planted.extend([
            ("grant {acme} to {app} with inherit true", inherits, true),
            ("grant {acme} to {app} with set false", lacks, false),
            ("grant {acme} to {app} with inherit true, set false", lacks, false),
        ]),
        _ => planted.push(("alter role {app} inherit", inherits, true)),
    }
    for (sql, expected, still_enters) in planted {
        assert_eq!(lines(&fleet.report().await), Vec::<String>::new(), "before {sql}");
        fleet.raw.run(&fleet.filled(sql)).await;
        assert_eq!(fleet.raw.one::<bool>(&enters).await, still_enters, "{sql}");
        let report = fleet.report().await;
        assert!(lines(&report).contains(&fleet.filled(expected)), "{sql}: {:#?}", lines(&report));
        // The comparison of this tenant alone says the same.
        let acme = Scope::Only(vec![slug("acme")]);
        let one = drift::verify(&fleet.operator, &fleet.migrations, &acme).await.unwrap();
        assert!(lines(&one).contains(&fleet.filled(expected)), "{sql}: {:#?}", lines(&one));
        fleet.raw.run(&report.fix_script()).await;
        assert!(fleet.raw.one::<bool>(&enters).await, "{sql}\n{}", report.fix_script());
    }
    assert_eq!(lines(&fleet.report().await), Vec::<String>::new());
    // The control: a role that nobody admitted loses the membership.
    let sql = if major >= 16 {
        "grant {acme} to {stray} with inherit true"
    } else {
        "alter role {stray} inherit; grant {acme} to {stray}"
    };
    fleet.raw.run(&fleet.filled(sql)).await;
    let report = fleet.report().await;
    assert_eq!(lines(&report), [fleet.filled(&inherits.replace("{app}", "{stray}"))]);
    fleet.raw.run(&report.fix_script()).await;
    assert!(!fleet.raw.one::<bool>(&fleet.filled("select pg_has_role('{stray}', '{acme}', 'MEMBER')")).await);
    // A tenant that is still being set up is entered by no login.
    fleet
        .raw
        .run(&fleet.filled(
            "revoke {acme} from {app}; update public.organizations set status = 'onboarding' where slug = 'acme'",
        ))
        .await;
    assert_eq!(lines(&fleet.report().await), Vec::<String>::new());
}

/// Whoever may act as a tenant by office is no finding: a superuser, whoever makes roles, the schema's owner.
#[tokio::test]
async fn the_operators_own_memberships_are_no_drift() {
    let fleet = Fleet::made().await;
    let (maker, _) = login_role(&fleet.database, &fleet.raw, "createrole").await;
    fleet.raw.run(&fleet.filled(&format!("grant {{acme}}, {{globex}} to {maker}"))).await;
    assert_eq!(lines(&fleet.report().await), Vec::<String>::new());
    // The control.
    fleet.raw.run(&format!("alter role {maker} nocreaterole")).await;
    assert_eq!(lines(&fleet.report().await).len(), 2);
}

/// Grants of the shared schema to single roles are the operator's; to a tenant's role or to everyone they are a hole.
#[tokio::test]
async fn what_everyone_may_do_in_a_tenants_schema_is_named() {
    let fleet = Fleet::made().await;
    for (sql, expected) in [
        ("grant select on tenant_acme.orders to public", "table orders: grants are everyone: select"),
        ("grant usage on schema tenant_acme to public", "schema: grants are everyone: usage"),
        (
            "alter default privileges in schema tenant_acme grant select on tables to public",
            "default rights tables: grants are everyone: select",
        ),
        ("grant select on public.magic_links to public", "table magic_links: grants are everyone: select"),
        ("grant truncate on public.sessions to public", "table sessions: grants are everyone: truncate"),
    ] {
        let before = lines(&fleet.report().await);
        fleet.raw.run(sql).await;
        let found = lines(&fleet.report().await);
        let new: Vec<_> = found.iter().filter(|line| !before.contains(line)).collect();
        assert!(new.len() == 1 && new[0].starts_with(expected), "{sql}: {new:?}");
    }
}

/// A table of a tenant that is a child of a shared one, or of another tenant's, shows its rows to whoever reads the parent.
#[tokio::test]
async fn children_of_shared_tables_are_named() {
    let fleet = Fleet::made().await;
    fleet
        .raw
        .run("create table public.log (id int, line text); create table public.parts (id int) partition by list (id)")
        .await;
    for (sql, expected) in [
        (
            "create table tenant_acme.log () inherits (public.log)",
            "table tenant_acme.log: inherits from public.log, through",
        ),
        (
            "create table tenant_acme.part partition of public.parts for values in (1)",
            "table tenant_acme.part: is a partition of public.parts, through",
        ),
        (
            "create table tenant_acme.copy () inherits (tenant_globex.orders)",
            "table tenant_acme.copy: inherits from tenant_globex.orders, through",
        ),
        (
            "create table public.vips () inherits (public.users); grant select on public.vips to public",
            "table vips: everyone has rights on it, and the policies of its parent users do not cover it",
        ),
        (
            "drop table public.vips; create table public.vips () inherits (public.users); grant select (email) on public.vips to public",
            "table vips: everyone has rights on it, and the policies of its parent users do not cover it",
        ),
    ] {
        // The path of the comparison is empty, so the server writes the names with their schemas.
        let expected =
            expected.replace("table vips", "table public.vips").replace("parent users", "parent public.users");
        assert_eq!(fleet.report().await.rights, [], "before {sql}");
        fleet.raw.run(sql).await;
        let report = fleet.report().await;
        let rights: Vec<_> = report.rights.iter().map(ToString::to_string).collect();
        assert!(rights.len() == 1 && rights[0].starts_with(&expected), "{sql}: {rights:?}");
        fleet.raw.run(&report.rights[0].fix[0].sql).await;
    }
    assert_eq!(fleet.report().await.rights, []);
}

/// Right after `setup:database`, with every combination of its options and with and without tenants, nothing has drifted.
#[tokio::test]
async fn a_fresh_database_is_clean_whatever_the_options() {
    let files = Files::of_tenants(&[("001_notes.sql", "create table notes (id int, body text)")]);
    for isolation in ["role", "path"] {
        for tables in [None, Some("registry"), Some("all")] {
            let database = TestServer::shared().database().await.unwrap();
            let name = app_name(&database).as_str().to_owned();
            let shell = Shell::on(&database)
                .set("CGK_ISOLATION", isolation)
                .set("CGK_MIGRATIONS", files.path().to_str().unwrap());
            let mut arguments = vec!["setup:database", "--app-role", &name];
            arguments.extend(tables.iter().flat_map(|tables| ["--app-tables", tables]));
            ends(&shell, &arguments, 0);
            ends(&shell, &["drift"], 0);
            ends(&shell, &["tenant:create", "acme", "globex"], 0);
            ends(&shell, &["drift"], 0);
            for again in ["--new-password", "--revoke-direct", "--isolate-tenants"] {
                let arguments = [&arguments[..], &[again]].concat();
                ends(&shell, &arguments, 0);
                ends(&shell, &["drift"], 0);
            }
            if isolation == "path" && tables.is_none() {
                // There is no tenant's role that needs it.
                Raw::on(&database).await.run("revoke usage on schema public from public").await;
                ends(&shell, &["drift"], 0);
            }
            // The control: the same comparison sees what is added.
            Raw::on(&database).await.run("grant select on public.users to public").await;
            ends(&shell, &["drift"], 7);
        }
    }
}

/// A login that was given everything, and then the registry only, leaves nothing behind; nor does a change to role isolation.
#[tokio::test]
async fn taking_rights_back_leaves_no_drift() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let migrations = Migrations::bundled();
    tenants(&database, &migrations, &["acme"]).await;
    let name = app_name(&database);
    for (isolation, tables) in [
        (Isolation::Role, SharedTables::All),
        (Isolation::Role, SharedTables::Registry),
        (Isolation::Role, SharedTables::All),
    ] {
        let operator = Operator::connect(&database.config().clone().with_isolation(isolation)).await.unwrap();
        let mut options = LoginOptions::default();
        (options.shared_tables, options.password) = (Some(tables), PasswordChange::Keep);
        login::admit(&operator, &name, &options).await.unwrap();
        let report = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
        assert_eq!(lines(&report), Vec::<String>::new(), "{isolation:?} {tables:?}");
    }
}
