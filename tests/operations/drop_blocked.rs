//! `tenant:drop` refuses where something outside of the tenant would go with it, before anything is done.

use crate::{
    fixture::{dropped, enters, left_of, picture, plain_acme, refused_as, until},
    stage::{Stage, must_end, slug},
    support::cgk::Shell,
};
use cgk::{
    Error, ErrorKind, TenantError,
    config::Isolation,
    drift::{self, NotCompared},
    lifecycle::{self, DropOptions},
    migrate::{Migrations, Scope, Silent},
};

const ITEMS: &str = "create table tenant_acme.items (id int primary key, n int);
    create type tenant_acme.mood as enum ('good');
    create function tenant_acme.twice(n int) returns int language sql immutable as 'select 2 * n';
    create sequence tenant_acme.numbers;";

/// What depends on the tenant, how that is said, and what takes it away.
const DEPENDENTS: &[(&str, &str, &str)] = &[
    (
        "create view public.all_items as select * from tenant_acme.items",
        "view public.all_items",
        "drop view public.all_items",
    ),
    // Its constraint and its index go with it, and it is named once.
    (
        "create table public.far (n int, exclude using btree (n with =) where (tenant_acme.twice(n) > 0))",
        "table constraint far_n_excl on public.far",
        "drop table public.far",
    ),
    (
        "create materialized view public.all_items as select * from tenant_acme.items",
        "materialized view public.all_items",
        "drop materialized view public.all_items",
    ),
    // An extension of the tenant's schema, which a database has once.
    ("create extension citext schema tenant_acme", "extension citext", "drop extension citext"),
    (
        "create table public.notes (item int references tenant_acme.items)",
        "table constraint",
        "drop table public.notes",
    ),
    ("create table public.moods (m tenant_acme.mood)", "table column public.moods.m", "drop table public.moods"),
    ("create table public.moods (m tenant_acme.mood[])", "table column public.moods.m", "drop table public.moods"),
    ("create table public.rows (r tenant_acme.items)", "table column public.rows.r", "drop table public.rows"),
    (
        "create table public.numbered (n bigint default nextval('tenant_acme.numbers'))",
        "default value",
        "drop table public.numbered",
    ),
    (
        "create table public.doubled (n int); create index doubled_twice on public.doubled (tenant_acme.twice(n))",
        "index public.",
        "drop table public.doubled",
    ),
    (
        "create function public.count_items() returns bigint begin atomic select count(*) from tenant_acme.items; end",
        "function public.",
        "drop function public.count_items()",
    ),
    ("create table public.more () inherits (tenant_acme.items)", "table public.more", "drop table public.more"),
    (
        "create table tenant_globex.notes (item int references tenant_acme.items)",
        "table constraint",
        "drop table tenant_globex.notes",
    ),
    (
        "create operator public.@#@ (function = tenant_acme.twice, rightarg = int)",
        "operator",
        "drop operator public.@#@ (none, int)",
    ),
    // A cast and an operator family of others, by the tenant's function.
    (
        "create type public.coin as enum ('one');
         create function tenant_acme.coins(public.coin) returns int language sql immutable as 'select 1';
         create cast (public.coin as int) with function tenant_acme.coins(public.coin)",
        "cast (public.coin AS integer)",
        "drop type public.coin cascade",
    ),
    (
        "create operator family public.others using hash;
         alter operator family public.others using hash add function 1 (int, int) tenant_acme.twice(int)",
        "function of access method function 1 (",
        "drop operator family public.others using hash",
    ),
];

async fn refusal(stage: &Stage) -> Vec<String> {
    let operator = stage.operator().await;
    let preview = lifecycle::preview_drop(&operator, &slug("acme")).await.unwrap();
    let result = lifecycle::drop_tenant(&operator, &slug("acme"), &DropOptions::default(), &mut Silent).await;
    let Err(Error::Tenant(TenantError::DropBlocked { by, .. })) = result else { panic!("{result:?}") };
    assert_eq!(by, preview.blocked_by);
    by
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_the_tenant_is_named_and_nothing_is_done() {
    let stage = Stage::set().await;
    stage.run(ITEMS).await;
    let picture_before = picture(&stage, "acme").await;
    for (create, named, remove) in DEPENDENTS {
        stage.run(create).await;
        let by = refusal(&stage).await;
        assert!(by.len() == 1 && by[0].starts_with(named) && by[0].ends_with("depends on it"), "{create}: {by:?}");
        assert_eq!(refused_nothing(&stage).await, Ok(()), "{create}");
        stage.run(remove).await;
        assert_eq!(picture(&stage, "acme").await, picture_before, "{create}");
    }
    // The control: without them it is dropped.
    dropped(&stage, "acme").await;
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
}

/// The members that an extension has in the tenant's schema, and how each is named.
const MEMBERS: &[(&str, &str)] = &[
    ("alter extension cube add function tenant_acme.twice(int)", "function tenant_acme.twice(integer)"),
    ("alter extension cube add type tenant_acme.mood", "type tenant_acme.mood"),
    ("alter extension cube add sequence tenant_acme.numbers", "sequence tenant_acme.numbers"),
    ("alter extension cube add table tenant_acme.items", "table tenant_acme.items"),
    ("alter extension cube add view tenant_acme.seen", "view tenant_acme.seen"),
    ("alter extension cube add cast (tenant_acme.mood as int)", "cast (tenant_acme.mood AS integer)"),
    ("alter extension cube add schema tenant_acme", "schema tenant_acme"),
    (
        "alter function public.cube_size(public.cube) set schema tenant_acme",
        "function tenant_acme.cube_size(public.cube)",
    ),
];

/// PostgreSQL drops an extension with each of its members, and with it the columns of other tenants.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_an_extension_is_named_with_the_statement_that_helps() {
    let stage = Stage::set().await;
    stage.run(ITEMS).await;
    stage
        .run(
            "create extension cube schema public; create table tenant_globex.geo as select '(1)'::public.cube c;
             create view tenant_acme.seen as select 1 as n; create cast (tenant_acme.mood as int) with inout",
        )
        .await;
    let before = picture(&stage, "acme").await;
    let operator = stage.operator().await;
    for (add, named) in MEMBERS {
        stage.run(add).await;
        let by = refusal(&stage).await;
        let remove = format!("alter extension cube drop {named}");
        assert_eq!(by, [format!("{named} is a member of extension cube: run `{remove}`")], "{add}");
        let hour = std::time::Duration::from_secs(3600);
        let later = lifecycle::schedule_drop(&operator, &slug("acme"), hour, &DropOptions::default()).await;
        assert_eq!(later.unwrap_err().code(), "CGK0862", "{add}");
        enters(&stage.db, "acme").await.unwrap();
        stage.run(&remove).await;
        assert_eq!(picture(&stage, "acme").await, before, "{add}");
    }
    // The control: the same objects, none of them a member.
    dropped(&stage, "acme").await;
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
    assert_eq!(stage.count("select count(*) from tenant_globex.geo where c is not null").await, 1);
}

/// Found also where the object becomes a member after the tenant was suspended for a planned drop, which has come.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_an_extension_stops_a_drop_that_is_due() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let options = DropOptions::default();
    lifecycle::schedule_drop(&operator, &slug("acme"), std::time::Duration::ZERO, &options).await.unwrap();
    stage.run("create extension cube schema public; alter extension cube add table tenant_acme.orders").await;
    let before = picture(&stage, "acme").await;
    let due = lifecycle::drop_due(&operator, &options, &mut Silent).await.unwrap();
    assert_eq!(due[0].result.as_ref().unwrap_err().code(), "CGK0862");
    let shell = Shell::on(&stage.database);
    for (how, said) in [
        (&["--plan"][..], "run `alter extension cube drop table tenant_acme.orders`"),
        (&["--confirm", "acme"], "or run the named statement, and run `cgk tenant:drop acme` again"),
    ] {
        let answer = shell.run(&[&["tenant:drop", "acme"], how].concat());
        let all = [answer.stdout, answer.stderr].concat().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(answer.code == 1 && all.contains(said), "{how:?}: {all}");
    }
    assert_eq!(picture(&stage, "acme").await, before);
    stage.run("alter extension cube drop table tenant_acme.orders").await;
    let due = lifecycle::drop_due(&operator, &options, &mut Silent).await.unwrap();
    due[0].result.as_ref().unwrap();
    assert_eq!(stage.count("select count(*) from pg_extension where extname = 'cube'").await, 1);
}

/// A range is dropped with its multirange. The functions of the multirange are moved too, so that only the type is left
/// outside.
#[tokio::test(flavor = "multi_thread")]
async fn a_range_outside_with_its_multirange_in_the_tenant_is_named() {
    let stage = Stage::set().await;
    stage
        .run(
            "create type public.span as range (subtype = int, multirange_type_name = tenant_acme.spans);
             create table public.spans (s public.span);
             alter function public.spans() set schema tenant_acme;
             alter function public.spans(public.span) set schema tenant_acme;
             alter function public.spans(public.span[]) set schema tenant_acme",
        )
        .await;
    assert_eq!(refusal(&stage).await, ["type public.span depends on it"]);
    stage.run("drop table public.spans; drop type public.span").await;
    dropped(&stage, "acme").await;
}

async fn refused_nothing(stage: &Stage) -> Result<(), String> {
    enters(&stage.db, "acme").await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_keep_the_organization_are_named() {
    let stage = Stage::set().await;
    let billing = "insert into billing (organization_id, provider_customer_id, plan, status)
                   select id, 'cus_1', 'pro', 'active' from organizations where slug = ";
    // Another tenant's rows keep nobody else.
    stage.run(&format!("{billing} 'globex'; {billing} 'acme'")).await;
    assert_eq!(refusal(&stage).await, ["table public.billing has rows of it"]);
    enters(&stage.db, "acme").await.unwrap();
    stage.run("delete from billing where organization_id = (select id from organizations where slug = 'acme')").await;
    dropped(&stage, "acme").await;
    assert_eq!(stage.count("select count(*) from billing").await, 1);
}

/// What refuses to let the registry's row go, how that is said, and what takes it away.
const KEEPERS: &[(&str, &str, &str)] = &[
    (
        "create table public.notes (author uuid references public.users);
         insert into public.notes select id from public.users",
        r#"violates foreign key constraint "notes_author_fkey" on table "notes""#,
        "drop table public.notes",
    ),
    (
        "create table public.by_slug (slug text references public.organizations (slug));
         insert into public.by_slug values ('acme')",
        r#"violates foreign key constraint "by_slug_slug_fkey""#,
        "drop table public.by_slug",
    ),
    (
        "create table public.notes (author uuid references public.users deferrable initially deferred);
         insert into public.notes select id from public.users",
        r#"violates foreign key constraint "notes_author_fkey" on table "notes""#,
        "drop table public.notes",
    ),
    (
        "create function public.keep() returns trigger language plpgsql as
             $$ begin raise exception '% is kept', old.slug; end $$;
         create trigger keep before delete on public.organizations for each row execute function public.keep()",
        "acme is kept",
        "drop function public.keep() cascade",
    ),
    (
        "create function public.keep() returns trigger language plpgsql as
             $$ begin raise exception '% is kept', old.slug; end $$;
         create constraint trigger keep after delete on public.organizations deferrable initially deferred
             for each row execute function public.keep()",
        "acme is kept",
        "drop function public.keep() cascade",
    ),
];

/// Found out before the first table is dropped, by a deletion that is taken back.
#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_the_registrys_row_is_found_before_anything_is_dropped() {
    let stage = Stage::set().await;
    stage.run("insert into public.users (organization_id, email) select id, 'a@x' from public.organizations where slug = 'acme'").await;
    let everything =
        "select count(*) from (select id from public.organizations union all select id from public.users) a";
    let (before, rows) = (picture(&stage, "acme").await, stage.count(everything).await);
    let operator = stage.operator().await;
    for (create, named, remove) in KEEPERS {
        stage.run(create).await;
        let result = lifecycle::drop_tenant(&operator, &slug("acme"), &DropOptions::default(), &mut Silent).await;
        let Err(Error::Tenant(TenantError::DropBlocked { by, .. })) = result else { panic!("{create}: {result:?}") };
        assert!(by.len() == 1 && by[0].contains(named), "{create}: {by:?}");
        stage.run(remove).await;
        assert_eq!(picture(&stage, "acme").await, before, "{create}");
        assert_eq!(stage.count(everything).await, rows, "{create}");
        enters(&stage.db, "acme").await.unwrap();
    }
    // The control: without them it is dropped, and the user with it.
    dropped(&stage, "acme").await;
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
    assert_eq!(stage.count("select count(*) from public.users where email = 'a@x'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_role_owns_elsewhere_is_named() {
    let stage = Stage::set().await;
    let role =
        "do $$ begin execute format('alter table public.owned owner to %I', 'cgk_acme_' || cgk_database_tag()); end $$";
    stage.run(&format!("create table public.owned (id int); {role}")).await;
    assert_eq!(refusal(&stage).await, ["its role owns table public.owned"]);
    enters(&stage.db, "acme").await.unwrap();
    stage.run("alter table public.owned owner to current_user").await;
    // A policy goes with its last role. One that has another role too stays.
    let policy = |to: &str| {
        format!(
            "do $$ begin execute format('create policy seen on public.owned to %I{to}', 'cgk_acme_' || cgk_database_tag()); end $$"
        )
    };
    stage.run(&policy("")).await;
    assert_eq!(refusal(&stage).await, ["policy seen on public.owned is for its role alone"]);
    stage.run(&format!("drop policy seen on public.owned; {}", policy(", current_user"))).await;
    // A right alone goes with the role.
    stage.run("do $$ begin execute format('grant select on public.owned to %I', 'cgk_acme_' || cgk_database_tag()); end $$").await;
    dropped(&stage, "acme").await;
    assert_eq!(stage.count("select count(*) from public.owned").await, 0);
    assert_eq!(stage.count("select count(*) from pg_policy where polname = 'seen'").await, 1);
}

/// Rights that a superuser grants to the tenant's role R: the privileges, the object as GRANT names it, and as the
/// refusal does.
const RIGHTS: &[(&str, &str, &str)] = &[
    ("usage", "schema rep", "schema rep"),
    ("select", "rep.r", "table rep.r"),
    ("select (a)", "rep.r", "table rep.r"),
    ("usage", "sequence rep.s", "sequence rep.s"),
    ("execute", "function pg_ls_dir(text)", "routine pg_catalog.pg_ls_dir(pg_catalog.text)"),
    ("execute", "procedure rep.p(int)", "routine rep.p(integer)"),
    ("execute", "function rep.total(int)", "routine rep.total(integer)"),
    ("usage", "type int4", "type pg_catalog.int4"),
    ("usage", "domain rep.d", "type rep.d"),
    ("usage", "language plpgsql", "language plpgsql"),
    ("create", "tablespace pg_default", "tablespace pg_default"),
    ("connect", "database postgres", "database postgres"),
    ("usage", "foreign data wrapper \"Far\"", "foreign data wrapper \"Far\""),
    ("usage", "foreign server \"Far\"", "foreign server \"Far\""),
    ("select", "large object 7321", "large object 7321"),
    ("set", "parameter log_statement", "parameter log_statement"),
];

/// As long as a right that another role granted is left, PostgreSQL does not drop the role.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_of_its_role_that_the_operator_may_not_revoke_is_named() {
    let migrations = Migrations::bundled();
    let (database, operator, db, watch) = plain_acme(&migrations, Isolation::Role).await;
    let tag = cgk::ident::DatabaseTag::of(database.name());
    let (role, reports) = (format!("cgk_acme_{}", tag.as_str()), format!("cgk_reports_{}", tag.as_str()));
    let own = operator.facts().role.clone();
    let run = async |sql: &str| {
        #[expect(clippy::disallowed_methods, reason = "several statements of a test at once")]
        watch.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    };
    run("create schema rep; create table rep.r (a int); create sequence rep.s; create domain rep.d as int;
         create procedure rep.p(int) language sql as 'select 1';
         create aggregate rep.total (int) (sfunc = int4pl, stype = int);
         create foreign data wrapper \"Far\"; create server \"Far\" foreign data wrapper \"Far\"; select lo_create(7321)")
    .await;
    let acme = slug("acme");
    let blocked = async || lifecycle::preview_drop(&operator, &acme).await.unwrap().blocked_by;
    let superuser: String = watch.query_one("select session_user::text", &[]).await.unwrap().get(0);
    for (privileges, object, named) in RIGHTS {
        if object.starts_with("parameter") && operator.facts().major() < 15 {
            continue;
        }
        run(&format!("grant {privileges} on {object} to {role} with grant option")).await;
        let revoke = format!("revoke all on {named} from {role}");
        let by = blocked().await;
        assert_eq!(by, [format!("its role has rights on {named}: run `{revoke}` as role {superuser}")]);
        let result = lifecycle::drop_tenant(&operator, &acme, &DropOptions::default(), &mut Silent).await;
        let Err(Error::Tenant(TenantError::DropBlocked { by: refused, .. })) = result else { panic!("{result:?}") };
        assert_eq!(refused, by);
        run(&revoke).await;
        assert_eq!(blocked().await, [""; 0], "{named}");
    }
    enters(&db, "acme").await.unwrap();
    // A right that the role has granted to another one.
    run(&format!(
        "grant usage on schema rep to public; grant select on rep.r to {role} with grant option; set role {role}; grant select on rep.r to public; reset role"
    ))
    .await;
    let revoke = format!("revoke all on table rep.r from {role} cascade");
    assert_eq!(blocked().await, [format!("its role has rights on table rep.r: run `{revoke}` as role {superuser}")]);
    run(&revoke).await;
    run(&format!("create policy seen on rep.r to {role}, {own}")).await;
    let alter = format!("run `alter policy` without this role as role {superuser}");
    assert_eq!(blocked().await, [format!("policy seen on rep.r names its role: {alter}")]);
    run(&format!("alter policy seen on rep.r to {own}")).await;
    // A table that refers to the registry and that the operator may not read.
    run("create table rep.inv (org uuid references public.organizations); revoke usage on schema rep from public")
        .await;
    for grant in ["usage on schema \"rep\"", "select on table \"rep\".\"inv\""] {
        let grant = format!("grant {grant} to \"{own}\"");
        let read = format!("table rep.inv can have rows of it and cannot be read: run `{grant}` as role {superuser}");
        assert_eq!(blocked().await, [read]);
        run(&grant).await;
    }
    run("grant usage on schema rep to public").await;
    // The control: rights that the operator may revoke, as the owner or as the role that granted them, and default
    // privileges. They are revoked, and the objects stay.
    run(&format!(
        "create role {reports} nologin; grant {reports} to {own};
         grant select on rep.r to {reports} with grant option;
         set role {reports}; grant select on rep.r to {role}; reset role;
         create table public.kept (id int); alter table public.kept owner to {own}; grant select on public.kept to {role};
         alter default privileges in schema rep grant select on tables to {role}"
    ))
    .await;
    assert_eq!(blocked().await, [""; 0]);
    lifecycle::drop_tenant(&operator, &acme, &DropOptions::default(), &mut Silent).await.unwrap();
    let left = "select (select count(*) from pg_roles where rolname = $1) + (select count(*) from organizations)";
    assert_eq!(watch.query_one(left, &[&role]).await.unwrap().get::<_, i64>(0), 0);
    run(&format!(
        "set role {reports}; select from rep.r; reset role; drop owned by {reports}; select from public.kept"
    ))
    .await;
}

/// What comes to depend on a table after the look is not taken along: the batch that would do so is refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_it_later_is_not_taken_along() {
    let stage = Stage::set().await;
    stage.run(ITEMS).await;
    // Holds up the first batch.
    stage.run("begin; lock table tenant_acme.items in access share mode").await;
    let operator = stage.operator().await;
    let dropping = tokio::spawn(async move {
        lifecycle::drop_tenant(&operator, &slug("acme"), &DropOptions::default(), &mut Silent).await
    });
    until(
        &stage,
        "it waits for the table",
        "select exists (select from pg_locks where not granted and relation = 'tenant_acme.items'::regclass)",
    )
    .await;
    stage.run("create view public.all_items as select * from tenant_acme.items; commit").await;
    let error = must_end(dropping).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Tenant(TenantError::DropBlocked { .. })), "{error:?}");
    assert_eq!(stage.count("select count(*) from public.all_items").await, 0);
    // It has begun: it is not compared, nobody enters, and without the view it goes on.
    let acme = Scope::Only(vec![slug("acme")]);
    let compared = drift::verify(&stage.operator().await, &Migrations::bundled(), &acme).await.unwrap();
    let acme = &compared.tenants[0];
    assert_eq!((acme.not_compared, acme.differences.len()), (Some(NotCompared::BeingDropped), 0), "{compared:?}");
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::Suspended);
    stage.run("drop view public.all_items").await;
    assert!(dropped(&stage, "acme").await.was_begun);
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
}

/// A schema that is another organization's, or nobody's, is not dropped for having the name.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_the_tenants_is_left_alone() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let refused = async || {
        let result = lifecycle::drop_tenant(&operator, &slug("acme"), &DropOptions::default(), &mut Silent).await;
        assert!(left_of(&stage, "acme").await[1]);
        result.unwrap_err().code()
    };
    stage.run("comment on schema tenant_acme is 'cgk organization 00000000-0000-0000-0000-000000000000'").await;
    assert_eq!(refused().await, "CGK0406");
    stage.run("drop schema tenant_acme cascade; create schema tenant_acme").await;
    assert_eq!(refused().await, "CGK0404");
}
