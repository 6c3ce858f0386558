//! What a service's login is given beside its tenants, counted in the catalogue: the list in docs/security.md, and no more.

use crate::{
    sandbox::{Files, migrate_all},
    stage::{Stage, slug},
};
use cgk::{
    Db, Operator,
    config::Isolation,
    login::SharedTables,
    migrate::{Migrations, Set},
};

/// Every right that is written down for the login outside of tenants' schemas, with what it is on; "*" where it may hand it on.
async fn granted(stage: &Stage) -> Vec<String> {
    let sql = "with held (what, acl) as (
            select 'table ' || c.relname, c.relacl from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind <> 'S'
            union all select 'sequence ' || c.relname, c.relacl from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'S'
            union all select 'column ' || c.relname || '.' || a.attname, a.attacl from pg_attribute a join pg_class c on c.oid = a.attrelid
                where c.relnamespace = 'public'::regnamespace
            union all select 'schema ' || n.nspname, n.nspacl from pg_namespace n where n.nspname not like 'tenant\\_%'
            union all select 'database', d.datacl from pg_database d where d.datname = current_database()
            union all select 'function ' || p.proname, p.proacl from pg_proc p
            union all select 'type ' || t.typname, t.typacl from pg_type t
            union all select 'language ' || l.lanname, l.lanacl from pg_language l
            union all select 'default ' || f.defaclobjtype::text, f.defaclacl from pg_default_acl f
                left join pg_namespace n on n.oid = f.defaclnamespace where n.nspname is null or n.nspname not like 'tenant\\_%')
        select string_agg(h.what || ' ' || a.privilege_type || case when a.is_grantable then '*' else '' end, E'\\n'
                          order by h.what collate \"C\", a.privilege_type collate \"C\")
        from held h, aclexplode(h.acl) a where a.grantee = $1::text::regrole";
    let row = stage.watch.query_one(sql, &[&stage.app_name().as_str()]).await.unwrap();
    row.get::<_, Option<String>>(0).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}

/// Rights on the relations of the shared schema that the login has whoever gave them, of all kinds that the server knows, without
/// those that [`Stage::set`] gives everybody on a table of its own.
async fn held(stage: &Stage) -> Vec<String> {
    let sql = "select string_agg(distinct k.privilege_type || ' ' || c.relname, E'\\n' order by k.privilege_type || ' ' || c.relname)
        from pg_class c, aclexplode(acldefault('r', c.relowner)) k
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relname <> 'marks'
          and (has_table_privilege($1, c.oid, k.privilege_type)
               or k.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') and has_any_column_privilege($1, c.oid, k.privilege_type))";
    let row = stage.watch.query_one(sql, &[&stage.app_name().as_str()]).await.unwrap();
    let held = row.get::<_, Option<String>>(0).unwrap_or_default();
    held.lines()
        .filter(|right| SHARED.iter().any(|table| right.ends_with(&format!(" {table}"))))
        .map(ToOwned::to_owned)
        .collect()
}

/// How many tables the shared schema has, without partitions and the test's own.
async fn tables(stage: &Stage) -> usize {
    let all =
        "select count(*) from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
                and not c.relispartition and c.relname not in ('marks', 'schema_migrations')
                and not starts_with(c.relname, 'cgk_')";
    usize::try_from(stage.number(all).await).unwrap()
}

/// The tables that are looked at one by one. Those of the platform have tests of their own in tests/platform.
const SHARED: [&str; 8] = [
    "api_keys",
    "billing",
    "magic_links",
    "organization_domains",
    "organizations",
    "provisioning_requests",
    "sessions",
    "users",
];
/// The tables of which everybody reads columns, as far as the policies show rows.
const OPEN: [&str; 5] = ["api_keys", "billing", "organizations", "sessions", "users"];

fn of_each(rights: &[&str], tables: &[&str]) -> Vec<String> {
    let mut all: Vec<String> =
        rights.iter().flat_map(|right| tables.iter().map(move |table| format!("{right} {table}"))).collect();
    all.sort();
    all
}

/// Rows of each shared table that the login sees in a tenant, in the order of [`SHARED`]; −1 where it may not read.
async fn rows_in_tenant(db: &Db) -> Vec<i64> {
    let mut rows = Vec::new();
    for table in SHARED {
        let counted = db.tenant(&slug("acme")).query_one(&format!("select count(id) from public.{table}"), &[]).await;
        rows.push(counted.map_or(-1, |row| row.get(0)));
    }
    rows
}

#[tokio::test]
async fn a_login_has_what_is_documented_and_no_more() {
    let stage = Stage::set().await;
    stage
        .sql(
            "insert into users (organization_id, email) select id, slug || '@x' from organizations;
             insert into sessions (organization_id, user_id, token_hash, expires_at)
             select organization_id, id, sha256(email::bytea), now() + interval '1 day' from users;
             insert into api_keys (organization_id, key_hash, name) select id, sha256(slug::bytea), slug from organizations;
             insert into billing (organization_id, provider_customer_id, plan, status)
             select id, slug, 'pro', 'active' from organizations;
             insert into magic_links (email, token_hash, purpose, expires_at)
             values ('acme@x', sha256('link'), 'login', now() + interval '1 day');
             insert into provisioning_requests (organization_id) select id from organizations;
             insert into organization_domains (organization_id, domain, verification_token)
             select id, slug || '.example.com', repeat('x', 32) from organizations;
             create sequence public.numbers",
        )
        .await;
    let base = [
        "column organizations.id SELECT",
        "column organizations.slug SELECT",
        "column organizations.status SELECT",
        "database CONNECT",
        "schema public USAGE",
    ];
    for (isolation, registry_rows, all_rows) in [
        // As a tenant's role: its own rows, whatever the login has; the links are nobody's.
        (Isolation::Role, [1, 1, -1, -1, 1, -1, 1, 1], [1, 1, -1, -1, 1, -1, 1, 1]),
        // As the login: of the registry its own row, of the rest nothing; with all tables its own rows.
        (Isolation::Path, [0, 0, -1, -1, 1, -1, 0, 0], [1, 1, 0, 1, 1, 1, 1, 1]),
    ] {
        let db = stage.app(isolation, SharedTables::Registry).await;
        let mine = |right: &String| !right.contains(" marks ") && !right.contains("column marks.");
        let own: Vec<String> = granted(&stage).await.into_iter().filter(mine).collect();
        assert!(own.iter().all(|right| base.contains(&right.as_str())), "{isolation:?}: {own:?}");
        assert!(own.len() >= 3, "{isolation:?}: {own:?}");
        assert_eq!(held(&stage).await, of_each(&["SELECT"], &OPEN), "{isolation:?}");
        assert_eq!(rows_in_tenant(&db).await, registry_rows, "{isolation:?}");

        let db = stage.app(isolation, SharedTables::All).await;
        let own: Vec<String> = granted(&stage).await.into_iter().filter(mine).collect();
        let beside: Vec<&String> = own.iter().filter(|right| !base.contains(&right.as_str())).collect();
        // Four rights on each table, and on the tables to come; three on each of two sequences, and on those to come.
        assert_eq!(beside.len(), 4 * tables(&stage).await + 4 + 3 * 2 + 3, "{isolation:?}: {beside:?}");
        assert_eq!(held(&stage).await, of_each(&["DELETE", "INSERT", "SELECT", "UPDATE"], &SHARED), "{isolation:?}");
        assert_eq!(rows_in_tenant(&db).await, all_rows, "{isolation:?}");

        // The control: a right more is seen by both looks.
        let login = stage.app_name();
        stage.sql(&format!("grant truncate, references, trigger on public.users to {login}")).await;
        assert_eq!(granted(&stage).await.into_iter().filter(mine).count(), own.len() + 3);
        assert_eq!(held(&stage).await.len(), 4 * SHARED.len() + 3);
        // To go back to the registry takes all of them.
        stage.app(isolation, SharedTables::Registry).await;
        assert_eq!(held(&stage).await, of_each(&["SELECT"], &OPEN), "{isolation:?}");
    }
}

/// The login has rights on every table that is created later in the shared schema, but not on those that cgk creates for itself.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_cgks_own_that_are_made_later_are_closed() {
    let stage = Stage::set().await;
    stage.app(Isolation::Role, SharedTables::All).await;
    let runs = "select count(*) from pg_class where oid = to_regclass('public.cgk_runs')";
    assert_eq!(stage.number(runs).await, 0, "the history begins with the first run that migrates");
    let files = Files::of_tenants(&[("900_more.sql", "create table more ()")]);
    for file in Migrations::bundled().set(Set::Tenant).files() {
        files.tenant(file.path().file_name().unwrap().to_str().unwrap(), file.sql());
    }
    let operator = Operator::connect(&stage.config()).await.unwrap();
    migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(stage.number(runs).await, 1);
    let on_own = "select count(*) from pg_class c, aclexplode(c.relacl) a
                  where c.relnamespace = 'public'::regnamespace and starts_with(c.relname, 'cgk_') and a.grantee <> c.relowner";
    assert_eq!(stage.number(on_own).await, 0);
    // The control: any other table is open to it.
    stage.sql("create table public.cgk_like ()").await;
    assert_eq!(stage.number(on_own).await, 4);
}
