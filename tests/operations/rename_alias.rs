//! `tenant:rename --keep-alias`: services find the tenant by its former slug for a time, and nobody else gets it.

use crate::{
    fixture::{dropped, enters, refused_as},
    stage::{Stage, connect, must_end, run, slug},
    support::cgk::Shell,
};
use cgk::{
    Db, ErrorKind, Retry, TxOptions,
    auth::{Auth, AuthSettings},
    drift,
    lifecycle::{self, CreateOptions, ListOptions, RenameOptions},
    login::{self, LoginOptions},
    migrate::{Migrations, Scope},
    resolver::{Resolver, ResolverSettings},
};
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(3_600);
const ROWS: &str = "select count(*) from cgk_aliases";

fn kept(new: &str) -> RenameOptions {
    RenameOptions::default().slug(slug(new)).keep_alias(HOUR)
}

async fn rename(stage: &Stage, from: &str, to: &str) {
    must_end(lifecycle::rename(&stage.operator().await, &slug(from), &kept(to))).await.unwrap();
}

async fn insert(db: &Db, tenant: &str, email: &str) -> Result<u64, cgk::Error> {
    let sql = "insert into customers (email) values ($1)";
    db.with_tenant(&slug(tenant), async |tx| tx.execute(sql, &[&email]).await).await
}

/// Handles that were connected before the rename, and one that was connected after it.
async fn a_former_slug_finds_the_tenant(stage: &Stage) {
    let (config, acme) = (stage.db.config().clone(), slug("acme"));
    let before = async || Db::connect(&config).await.unwrap();
    let (plain, retried, waiting) = (before().await, before().await, before().await);
    for db in [&plain, &retried, &waiting] {
        enters(db, "acme").await.unwrap();
    }
    rename(stage, "acme", "apex").await;

    let sql = "insert into customers (email) values ($1)";
    assert_eq!(stage.db.tenant(&acme).execute(sql, &[&"single@x"]).await.unwrap(), 1);
    assert_eq!(insert(&stage.db, "acme", "after@x").await.unwrap(), 1, "the handle knows the slug by now");
    let error = insert(&plain, "acme", "first@x").await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0413", ErrorKind::Unavailable), "{error:?}");
    assert_eq!(insert(&plain, "acme", "second@x").await.unwrap(), 1);
    let (options, retry) = (TxOptions::default(), Retry::default());
    let body = async |tx: &mut cgk::TenantTx<'_>| tx.execute(sql, &[&"retried@x"]).await;
    assert_eq!(retried.with_tenant_retry(&acme, &options, &retry, body).await.unwrap(), 1);
    let body = async |tx: &mut cgk::TenantTx<'_>| tx.execute(sql, &[&"waits@x"]).await;
    assert_eq!(waiting.with_tenant_in(&acme, &TxOptions::default().wait_for_entry(), body).await.unwrap(), 1);
    assert_eq!(insert(&before().await, "acme", "new@x").await.unwrap(), 1);
    assert_eq!(insert(&plain, "apex", "apex@x").await.unwrap(), 1);
    let emails = "select string_agg(email, ' ' order by email) from tenant_apex.customers";
    let emails: String = stage.rows(emails, &[]).await[0].get(0);
    assert_eq!(emails, "after@x apex@x new@x retried@x second@x single@x waits@x");

    let found = plain.platform().find_tenant(&acme).await.unwrap();
    assert_eq!((found.id, found.slug), (stage.acme, slug("apex")));
    let resolver = Resolver::new(&Auth::new(&plain, AuthSettings::default()), ResolverSettings::default());
    for asked in ["acme", "apex", "acme"] {
        let found = resolver.tenant(&slug(asked)).await.unwrap();
        assert_eq!((found.id, found.slug), (stage.acme, slug("apex")), "{asked}");
    }
    // The control: without an alias the slug is unknown.
    assert_eq!(refused_as(&plain, "initech").await, ErrorKind::NotFound);
    lifecycle::rename(&stage.operator().await, &slug("globex"), &RenameOptions::default().slug(slug("initech")))
        .await
        .unwrap();
    assert_eq!(refused_as(&plain, "globex").await, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_role_a_former_slug_finds_the_tenant() {
    a_former_slug_finds_the_tenant(&Stage::set().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_path_a_former_slug_finds_the_tenant() {
    a_former_slug_finds_the_tenant(&Stage::set_path_mode().await).await;
}

/// A login with the rights to enter tenants and no others.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_rights_on_shared_tables_finds_it() {
    let stage = Stage::set().await;
    let name = format!("few_{:08x}", rand::random::<u32>()).parse().unwrap();
    let admission = login::admit(&stage.operator().await, &name, &LoginOptions::default()).await.unwrap();
    let url = stage.database.config().url_of(name.as_str(), Some(admission.password.as_ref().unwrap().reveal()));
    let config = cgk::Config::from_url(&url).unwrap();
    let early = Db::connect(&config).await.unwrap();
    rename(&stage, "acme", "apex").await;
    early.tenant(&slug("acme")).query("select email from customers", &[]).await.unwrap();
    enters(&Db::connect(&config).await.unwrap(), "acme").await.unwrap();
    drop(early);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_the_slug_until_it_ends() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    rename(&stage, "acme", "apex").await;
    insert(&stage.db, "apex", "a@x").await.unwrap();
    let (migrations, options, acme) = (Migrations::bundled(), CreateOptions::default(), slug("acme"));
    let refused = async || lifecycle::create(&operator, &stage.db, &migrations, &acme, &options).await.unwrap_err();
    let error = refused().await;
    assert_eq!((error.code(), error.kind()), ("CGK0414", ErrorKind::Conflict), "{error:?}");
    assert!(error.to_string().contains("a former slug of tenant apex"), "{error}");
    let error = lifecycle::rename(&operator, &slug("globex"), &kept("acme")).await.unwrap_err();
    assert_eq!(error.code(), "CGK0414");
    // Services write rows of the registry too.
    let row = "insert into organizations (slug, name, status) values ('acme', 'x', 'onboarding')";
    let error = stage.watch.execute(row, &[]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().constraint(), Some("organizations_slug_key"));
    assert_eq!(stage.count("select count(*) from organizations").await, 2);

    // It ends early: another tenant gets it, and a handle that knows it as a former slug enters that tenant.
    enters(&stage.db, "acme").await.unwrap_or_else(|error| assert_eq!(error.code(), "CGK0413"));
    enters(&stage.db, "acme").await.unwrap();
    assert!(!lifecycle::drop_alias(&operator, &slug("globex"), &acme).await.unwrap(), "it is another tenant's");
    assert!(lifecycle::drop_alias(&operator, &slug("apex"), &acme).await.unwrap());
    assert!(!lifecycle::drop_alias(&operator, &slug("apex"), &acme).await.unwrap(), "repeated");
    assert_eq!(lifecycle::drop_alias(&operator, &acme, &acme).await.unwrap_err().code(), "CGK0401");
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::NotFound);
    lifecycle::create(&operator, &stage.db, &migrations, &acme, &options).await.unwrap();
    let rows =
        "select (select count(*) from tenant_apex.customers) * 10 + (select count(*) from tenant_acme.customers)";
    assert_eq!(stage.count(rows).await, 10);
    insert(&stage.db, "acme", "b@x").await.unwrap();
    assert_eq!(stage.count(rows).await, 11);
    // The other organization cannot keep it now, as it is a slug again.
    let error = lifecycle::rename(&operator, &slug("apex"), &kept("acme")).await.unwrap_err();
    assert_eq!(error.code(), "CGK0863");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_slug_ends_by_itself_and_with_its_tenant() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    rename(&stage, "acme", "apex").await;
    stage.db.tenant(&slug("acme")).query("select 1", &[]).await.unwrap();
    stage.run("update cgk_aliases set expires_at = now()").await;
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::NotFound);
    let found = stage.db.platform().find_tenant(&slug("acme")).await.unwrap_err();
    assert_eq!(found.kind(), ErrorKind::NotFound);
    lifecycle::create(&operator, &stage.db, &Migrations::bundled(), &slug("acme"), &CreateOptions::default())
        .await
        .unwrap();
    // The next rename deletes it; several are kept, and follow the tenant.
    rename(&stage, "apex", "apogee").await;
    rename(&stage, "apogee", "zenith").await;
    assert_eq!(stage.count(ROWS).await, 2);
    for former in ["apex", "apogee"] {
        stage.db.tenant(&slug(former)).query("select 1", &[]).await.unwrap();
        assert_eq!(stage.db.platform().find_tenant(&slug(former)).await.unwrap().slug, slug("zenith"));
    }
    // Back to a former slug: it is the slug.
    rename(&stage, "zenith", "apex").await;
    assert_eq!(stage.count("select count(*) from cgk_aliases where slug in ('apogee', 'zenith')").await, 2);
    assert_eq!(stage.count(ROWS).await, 2);
    dropped(&stage, "apex").await;
    assert_eq!(stage.count(ROWS).await, 0);
    assert_eq!(refused_as(&stage.db, "zenith").await, ErrorKind::NotFound);
}

/// What a rename with an alias adds is no drift, and tenants see and change none of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_cgks_own() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    rename(&stage, "acme", "apex").await;
    let report = drift::verify(&operator, &Migrations::bundled(), &Scope::Everything).await.unwrap();
    assert!(!report.has_drift() && report.strays.is_empty(), "{report:#?}");
    let count = |tenant: &'static str| {
        let db = stage.db.clone();
        async move { db.tenant(&slug(tenant)).query_one("select count(slug) from public.cgk_aliases", &[]).await }
    };
    assert_eq!(count("apex").await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(count("globex").await.unwrap().get::<_, i64>(0), 0);
    for change in [
        "insert into public.cgk_aliases (slug, organization_id, expires_at) select 'x', organization_id, expires_at from public.cgk_aliases",
        "update public.cgk_aliases set expires_at = 'infinity'",
        "delete from public.cgk_aliases",
        "select created_at from public.cgk_aliases",
    ] {
        let error = stage.db.tenant(&slug("apex")).execute(change, &[]).await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().code(), "42501", "{change}");
    }
    let shown = lifecycle::show(&operator, &Migrations::bundled(), &slug("apex")).await.unwrap();
    assert_eq!((shown.aliases.len(), shown.aliases[0].slug.as_str()), (1, "acme"));
    assert!(shown.aliases[0].expires_at > SystemTime::now());
    let listed = lifecycle::list(&operator, &Migrations::bundled(), &ListOptions::default()).await.unwrap();
    let aliases: Vec<_> =
        listed.tenants.iter().map(|tenant| (tenant.state.tenant.slug.as_str(), tenant.aliases.len())).collect();
    assert_eq!(aliases, [("apex", 1), ("globex", 0)]);
}

/// A rename that is refused or fails keeps no alias; a registration that waits for a rename does not get the slug.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_rename_keeps_nothing_and_a_waiting_registration_is_refused() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let holder = stage.db.clone();
    let error = holder
        .with_tenant(&slug("acme"), async |tx| {
            tx.query("select 1", &[]).await?;
            Ok(lifecycle::rename(&operator, &slug("acme"), &kept("apex").wait(Duration::ZERO)).await.unwrap_err())
        })
        .await
        .unwrap();
    assert_eq!((error.code(), stage.count(ROWS).await), ("CGK0860", 0));
    enters(&stage.db, "acme").await.unwrap();
    stage.run("alter table cgk_aliases add constraint failing check (slug <> 'acme')").await;
    lifecycle::rename(&operator, &slug("acme"), &kept("apex")).await.unwrap_err();
    enters(&stage.db, "acme").await.unwrap();
    stage.run("alter table cgk_aliases drop constraint failing").await;
    assert_eq!(stage.count(ROWS).await, 0);

    let change = "alter schema tenant_acme rename to tenant_apex;
        do $$ begin execute format('alter role %I rename to %I', 'cgk_acme_' || cgk_database_tag(), 'cgk_apex_' || cgk_database_tag()); end $$;
        update organizations set slug = 'apex' where slug = 'acme';
        insert into cgk_aliases select 'acme', id, now() + interval '1 hour' from organizations where slug = 'apex'";
    // A service registers the slug while the rename is not committed: it waits, and then sees the alias.
    let renaming = stage.holder(change).await;
    let service = connect(&stage.database).await;
    let registering = tokio::spawn(async move {
        let row = "insert into organizations (slug, name, status) values ('acme', 'x', 'onboarding')";
        service.execute(row, &[]).await
    });
    stage.until_waiting(1).await;
    run(&renaming, "commit").await;
    let error = must_end(registering).await.unwrap().unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("former slug"), "{error:?}");
    enters(&stage.db, "apex").await.unwrap();
    let found = stage.db.platform().find_tenant(&slug("acme")).await.unwrap();
    assert_eq!((found.id, found.slug), (stage.acme, slug("apex")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_keeps_shows_and_drops_former_slugs() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let shown = |arguments: &[&str], code: i32, text: &str| {
        let answer = shell.run(arguments);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert_eq!(answer.code, code, "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    };
    shown(&["tenant:rename", "acme", "--name", "Acme", "--keep-alias", "1d"], 2, "NEW");
    shown(&["tenant:rename", "acme", "--drop-alias", "old"], 0, "tenant acme has no former slug old");
    assert_eq!(stage.count("select count(*) from pg_class where relname = 'cgk_aliases'").await, 0);
    shown(&["tenant:rename", "acme", "apex", "--keep-alias", "30d"], 0, "Services find it as acme too, until 20");
    shown(&["tenant:show", "apex"], 0, "former slug    acme until 20");
    shown(&["tenant:show", "apex", "--json"], 0, r#""aliases":[{"slug":"acme","expires_at":"20"#);
    shown(&["tenant:list", "--wide"], 0, "FORMER SLUGS");
    for command in ["tenant:show", "tenant:suspend", "tenant:activate", "tenant:drop"] {
        shown(&[command, "acme"], 1, "use the slug apex");
        shown(&[command, "globex_2"], 1, "tenant globex_2 does not exist");
    }
    shown(&["migrate", "--tenant", "acme"], 1, "use the slug apex");
    shown(&["tenant:list", "--json"], 0, r#""aliases":[{"slug":"acme""#);
    shown(&["tenant:create", "acme"], 1, "--drop-alias acme");
    shown(&["tenant:rename", "apex", "zenith", "--keep-alias", "1h", "--json"], 0, r#""alias_until":"20"#);
    shown(&["tenant:rename", "zenith", "--drop-alias", "acme"], 0, "dropped former slug acme of tenant zenith");
    shown(&["tenant:rename", "zenith", "--drop-alias", "acme", "--json"], 0, r#""alias":"acme","dropped":false"#);
    shown(&["doctor"], 0, "");
    shown(&["drift"], 0, "");
    shown(&["tenant:create", "acme"], 0, "acme");
}
