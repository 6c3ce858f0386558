//! The stamps of a comparison: what has not changed is not read again, and no change is hidden by them.

use super::schemas::{PLANTED, lines, of, planted_with, role};
use crate::{
    access::service_login::app_name,
    sandbox::{Files, Raw, login_role, tenants},
};
use cgk::{
    Operator,
    config::Isolation,
    drift::{self, DriftReport},
    login::{self, LoginOptions},
    migrate::{Migrations, Scope},
    setup::{self, IsolationChange},
    testing::TestServer,
};
use std::collections::BTreeMap;

/// More than are looked at one by one.
const TENANTS: usize = 24;

async fn compare(operator: &Operator, migrations: &Migrations) -> DriftReport {
    drift::verify(operator, migrations, &Scope::Everything).await.unwrap()
}

/// The kept stamps by schema, each with the row that holds it: a schema that is read again gets another row.
async fn kept(raw: &Raw) -> BTreeMap<String, String> {
    let all =
        raw.all::<String>("select schema_name || '=' || stamp || ' ' || shared || ' ' || ctid from cgk_stamps").await;
    all.iter().map(|line| line.split_once('=').unwrap()).map(|(schema, row)| (schema.into(), row.into())).collect()
}

fn own(row: &str) -> &str {
    row.split(' ').next().unwrap()
}

async fn fleet(files: &[(&str, &str)]) -> (cgk::testing::TestDatabase, Migrations, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let migrations = Files::of_tenants(files).load();
    let slugs: Vec<String> = (0..TENANTS).map(|index| format!("s{index}")).collect();
    let operator = tenants(&database, &migrations, &slugs.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let raw = Raw::on(&database).await;
    (database, migrations, operator, raw)
}

#[tokio::test]
async fn what_has_not_changed_is_not_read_again() {
    let (_database, migrations, operator, raw) = fleet(&[("001_a.sql", "create table a (id int)")]).await;
    assert!(!compare(&operator, &migrations).await.has_drift());
    let first = kept(&raw).await;
    assert_eq!(first.len(), TENANTS);
    assert!(!compare(&operator, &migrations).await.has_drift());
    assert_eq!(kept(&raw).await, first, "nothing was read again");
    // The control: by what is kept, a schema is as it should be whatever it holds. A fingerprint in another's place is found.
    raw.run("update cgk_stamps set fingerprint = 'none' where schema_name = 'tenant_s3'").await;
    assert!(!compare(&operator, &migrations).await.has_drift(), "a closer look says that it is");
    assert_eq!(kept(&raw).await.len(), TENANTS);
    // One that changed, and changed back, is read again, and only that one.
    let before = kept(&raw).await;
    raw.run("alter table tenant_s5.a add b int; alter table tenant_s5.a drop b").await;
    assert!(!compare(&operator, &migrations).await.has_drift());
    let after = kept(&raw).await;
    let changed: Vec<_> = before.keys().filter(|schema| after.get(*schema) != before.get(*schema)).collect();
    assert_eq!(changed, ["tenant_s5"]);
    assert_ne!(own(&before["tenant_s5"]), own(&after["tenant_s5"]));
    // What a publication of the whole schema says is in no row of the schema's own.
    if operator.facts().major() >= 15 {
        raw.run(&format!("create publication \"{}\" for tables in schema tenant_s9", operator.facts().database)).await;
        let report = compare(&operator, &migrations).await;
        assert_eq!(of(&report, "s9").differences.len(), 1, "{:?}", lines(of(&report, "s9")));
        raw.run(&format!("drop publication \"{}\"", operator.facts().database)).await;
    }
    // A tenant that is gone leaves no stamp.
    raw.run("drop schema tenant_s7 cascade; delete from organizations where slug = 's7'").await;
    compare(&operator, &migrations).await;
    assert!(!kept(&raw).await.contains_key("tenant_s7"));
}

/// Every change that is planted by hand in the tests of drift makes another stamp. And a stamp is the same whether the catalogues
/// are read whole, as for many schemas, or by index, as for few.
#[tokio::test]
async fn no_change_is_hidden_by_a_stamp() {
    let (database, migrations, operator, raw, slugs) = planted_with(&["untouched"]).await;
    assert!(!compare(&operator, &migrations).await.has_drift());
    let by_scan = kept(&raw).await;
    assert_eq!(by_scan.len(), slugs.len() + 1, "the precondition: each is taken for unchanged from now on");
    raw.run("delete from cgk_stamps").await;
    for part in slugs.chunks(30) {
        let scope = Scope::Only(part.iter().map(|slug| slug.parse().unwrap()).collect());
        assert!(!drift::verify(&operator, &migrations, &scope).await.unwrap().has_drift());
    }
    let by_index = kept(&raw).await;
    assert!(by_index.len() > 50, "{}", by_index.len());
    for (schema, row) in &by_index {
        assert_eq!(own(row), own(&by_scan[schema]), "{schema}");
    }
    assert!(!compare(&operator, &migrations).await.has_drift());
    for (slug, (sql, _)) in slugs.iter().zip(PLANTED) {
        let sql = sql.replace("{schema}", &format!("tenant_{slug}")).replace("{role}", &role(&database, slug));
        raw.run(&format!("set search_path = tenant_{slug}, public; {sql}")).await;
    }
    let found = compare(&operator, &migrations).await;
    for (slug, (sql, _)) in slugs.iter().zip(PLANTED) {
        assert!(!lines(of(&found, slug)).is_empty(), "{sql}");
    }
    assert!(of(&found, "untouched").is_clean());
}

/// What objects of a schema name outside of it: a change there is seen in schemas none of whose own rows changed.
#[tokio::test]
async fn a_change_outside_of_the_schemas_is_not_hidden() {
    let reader = format!("reader_{:08x}", rand::random::<u32>());
    let set = format!(
        "create table a (id int, mood public.mood default 'low'::public.mood, place int references public.places (id));
         create view b as select public.shout('x') as x;
         create function f() returns void language sql as '';
         grant select on a to {reader}"
    );
    let database = TestServer::shared().set_up_database().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run(&format!(
        "create role {reader}; create table public.places (id int primary key); create type public.mood as enum ('low', 'high');
         create function public.shout(text) returns text language sql immutable as 'select upper($1)';
         grant usage on type public.mood to public; grant execute on function public.shout(text) to public"
    ))
    .await;
    let migrations = Files::of_tenants(&[("001_a.sql", &set)]).load();
    let slugs: Vec<String> = (0..TENANTS).map(|index| format!("s{index}")).collect();
    let operator = tenants(&database, &migrations, &slugs.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let clean = |report: &DriftReport| report.tenants.iter().all(drift::SchemaDrift::is_clean);
    assert!(clean(&compare(&operator, &migrations).await));
    let renamed = format!("{reader}_renamed");
    for (change, back) in [
        ("alter type public.mood rename to temper".to_owned(), "alter type public.temper rename to mood".to_owned()),
        (
            "alter function public.shout(text) rename to cry".to_owned(),
            "alter function public.cry(text) rename to shout".to_owned(),
        ),
        (format!("alter role {reader} rename to {renamed}"), format!("alter role {renamed} rename to {reader}")),
        (
            "alter table places rename column id to place".to_owned(),
            "alter table places rename column place to id".to_owned(),
        ),
        ("alter table places rename to spots".to_owned(), "alter table spots rename to places".to_owned()),
    ] {
        raw.run(&change).await;
        let found = compare(&operator, &migrations).await;
        assert!(found.tenants.iter().all(|tenant| !tenant.differences.is_empty()), "{change}");
        raw.run(&back).await;
        assert!(clean(&compare(&operator, &migrations).await), "{back}");
    }
    raw.run(&format!("drop owned by {reader}; drop role {reader}")).await;
}

/// Whoever may only read finds the same, with and without stamps, and writes none.
#[tokio::test]
async fn a_login_that_may_only_read_writes_no_stamps() {
    let (database, migrations, operator, raw) = fleet(&[("001_a.sql", "create table a (id int)")]).await;
    let (name, config) = login_role(&database, &raw, "bypassrls").await;
    raw.run(&format!("grant pg_read_all_data to {name}")).await;
    let reader = Operator::connect(&config).await.unwrap();
    let looked = drift::verify(&reader, &migrations, &Scope::Tenants).await.unwrap();
    assert!(!looked.has_drift() && kept(&raw).await.is_empty());
    assert!(!compare(&operator, &migrations).await.has_drift());
    let before = kept(&raw).await;
    assert_eq!(before.len(), TENANTS, "the control: the operator's are kept");
    raw.run("alter table tenant_s2.a add b int").await;
    let looked = drift::verify(&reader, &migrations, &Scope::Tenants).await.unwrap();
    assert_eq!(lines(of(&looked, "s2")), ["column a.b: not from any migration"]);
    assert_eq!(looked.tenants.iter().filter(|tenant| !tenant.is_clean()).count(), 1);
    // May it not even read them, it does without.
    raw.run(&format!(
        "revoke pg_read_all_data from {name};
         grant select on organizations, cgk_references, cgk_rehearsals to {name};
         do $$ declare s text; begin for s in select nspname from pg_namespace where nspname like 'tenant%' loop
             execute format('grant usage on schema %I to {name}; grant select on %I.schema_migrations to {name}', s, s); end loop; end $$"
    ))
    .await;
    let looked = drift::verify(&reader, &migrations, &Scope::Tenants).await.unwrap();
    let found = lines(of(&looked, "s2"));
    assert!(found.contains(&"column a.b: not from any migration".to_owned()), "{found:?}");
    assert_eq!(kept(&raw).await, before);
}

/// Stamps of another database, of another version of cgk and of too many transactions ago are not used.
#[tokio::test]
async fn stamps_that_do_not_fit_are_not_used() {
    let (_database, migrations, operator, raw) = fleet(&[("001_a.sql", "create table a (id int)")]).await;
    for change in [
        "update cgk_stamps set context = replace(context, 'database ', 'database 1')",
        "update cgk_stamps set context = replace(context, 'stamp ', 'stamp 0')",
        "update cgk_stamps set next_transaction = next_transaction - 2::int8 ^ 31 - 10000",
        "update cgk_stamps set next_transaction = next_transaction + 1000000",
        "update cgk_stamps set shared = '0'",
        "update cgk_stamps set stamp = '0:1:1'",
    ] {
        assert!(!compare(&operator, &migrations).await.has_drift());
        raw.run(change).await;
        let planted = kept(&raw).await;
        assert!(!compare(&operator, &migrations).await.has_drift());
        let after = kept(&raw).await;
        assert!(planted.iter().all(|(schema, row)| after[schema] != *row), "{change}");
    }
}

/// What a comparison leaves out while the isolation is being changed is not left out after it.
#[tokio::test]
async fn stamps_of_a_change_of_the_isolation_are_not_used_after_it() {
    let (database, migrations, _, raw) = fleet(&[("001_a.sql", "create table a (id int)")]).await;
    let config = |isolation| database.config().clone().with_isolation(isolation);
    let operator = async |isolation| Operator::connect(&config(isolation)).await.unwrap();
    let change = async |isolation, step| setup::change_isolation(&config(isolation), step).await.unwrap();
    let (role, path) = (Isolation::Role, Isolation::Path);

    change(path, IsolationChange::Start).await;
    login::admit(&operator(path).await, &app_name(&database), &LoginOptions::default()).await.unwrap();
    assert!(!compare(&operator(role).await, &migrations).await.has_drift());
    assert_eq!(kept(&raw).await.len(), TENANTS, "the precondition");
    change(role, IsolationChange::Start).await;
    login::complete(&operator(role).await).await.unwrap();
    setup::finish_before_revoking(&config(role), &app_name(&database)).await.unwrap();
    let report = compare(&operator(role).await, &migrations).await;
    let with_rights = report.tenants.iter().filter(|drift| !drift.differences.is_empty()).count();
    assert_eq!(with_rights, TENANTS, "the login's direct rights");
}

/// After a restored dump, some texts of the server are others, and the objects are the same.
#[tokio::test]
async fn a_schema_with_other_texts_of_the_same_objects_is_not_read_again() {
    let set = "create table a (id int, state varchar(9) constraint a_state check (state in ('x', 'y')))";
    let (_database, migrations, operator, raw) = fleet(&[("001_a.sql", set)]).await;
    let restored = "alter table tenant_s4.a drop constraint a_state, add constraint a_state
         check (((state)::text = any (array[('x'::character varying)::text, ('y'::character varying)::text])))";
    raw.run(restored).await;
    let text = "select pg_get_constraintdef(oid) from pg_constraint where conname = 'a_state' and connamespace = '{}'::regnamespace";
    assert_ne!(
        raw.one::<String>(&text.replace("{}", "tenant_s4")).await,
        raw.one::<String>(&text.replace("{}", "tenant_s5")).await,
        "the precondition"
    );
    assert!(!compare(&operator, &migrations).await.has_drift());
    let first = kept(&raw).await;
    assert_eq!(first.len(), TENANTS);
    assert!(!compare(&operator, &migrations).await.has_drift());
    assert_eq!(kept(&raw).await, first, "nothing was read again");
    // The control: a change is seen.
    raw.run("alter table tenant_s4.a drop constraint a_state, add constraint a_state check (state in ('x', 'z'))")
        .await;
    let found = compare(&operator, &migrations).await;
    assert_eq!(lines(of(&found, "s4")).len(), 1);
    assert!(!kept(&raw).await.contains_key("tenant_s4"));
}

/// `cgk doctor` calls a tenant unchanged and without differences by its stamp.
#[tokio::test]
async fn a_tenant_whose_role_differs_has_no_stamp() {
    let (database, migrations, operator, raw) = fleet(&[("001_a.sql", "create table a (id int)")]).await;
    assert!(!compare(&operator, &migrations).await.has_drift());
    assert_eq!(kept(&raw).await.len(), TENANTS, "the precondition");
    let role = role(&database, "s6");
    raw.run(&format!("alter role {role} bypassrls")).await;
    let found = compare(&operator, &migrations).await;
    assert_eq!(lines(of(&found, "s6")).len(), 1);
    assert_eq!(kept(&raw).await.len(), TENANTS - 1);
    assert!(!kept(&raw).await.contains_key("tenant_s6"));
    raw.run(&format!("alter role {role} nobypassrls")).await;
    assert!(!compare(&operator, &migrations).await.has_drift());
    assert_eq!(kept(&raw).await.len(), TENANTS);
}

/// Tenants with the same differences are compared once. The texts name the schema of each.
#[tokio::test]
async fn a_difference_names_the_tenants_own_schema() {
    let set = "create table a (id int, b text); create function f() returns text language sql as 'select 1::text'";
    let (_database, migrations, operator, raw) = fleet(&[("001_a.sql", set)]).await;
    for slug in ["s1", "s2", "s3"] {
        raw.run(&format!("alter table tenant_{slug}.a alter b set default 'of tenant_{slug}.a'")).await;
    }
    let found = compare(&operator, &migrations).await;
    for slug in ["s1", "s2", "s3"] {
        let lines = lines(of(&found, slug));
        assert!(lines.len() == 1 && lines[0].contains(&format!("of tenant_{slug}.a")), "{lines:?}");
    }
}
