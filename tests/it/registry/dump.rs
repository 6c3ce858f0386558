//! The dump of one tenant's schema: restored where it came from, under another organization, and into another database.

use super::database_identity::{self, Shop, by_hand, customers};
use crate::{
    drift::schemas::tools,
    sandbox::{Raw, failure, migrate_all, plan_all},
    stage::{report, slug},
};
use cgk::{
    Config, Db, Error, TenantError,
    lifecycle::{self, BaselineOptions, Baselining, CreateOptions},
    migrate::{Migrations, Step},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What `pg_dump -n tenant_acme` wrote; gone with this value.
struct Dump {
    tools: PathBuf,
    file: PathBuf,
}

impl Dump {
    /// `None` where there is no pg_dump of the server's own version.
    fn of_acme(shop: &Shop) -> Option<Self> {
        let Some(tools) = tools() else {
            report("no pg_dump of the server's version: a restored schema was not tried");
            return None;
        };
        let file = std::env::temp_dir().join(format!("cgk-dump-{:016x}", rand::random::<u64>()));
        let url = crate::sandbox::url(&shop.database, None);
        run(Command::new(tools.join("pg_dump")).args(["-n", "tenant_acme", "-f"]).arg(&file).arg(&url));
        Some(Self { tools, file })
    }

    fn restore(&self, shop: &Shop) {
        let psql = self.tools.join("psql");
        let options = ["-qX", "-v", "ON_ERROR_STOP=1", "-f"];
        run(Command::new(psql).args(options).arg::<&Path>(&self.file).arg(crate::sandbox::url(&shop.database, None)));
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What has drifted, but for the texts of restored expressions, which `drift::a_restored_schema_is_clean` looks at.
async fn drifts(config: &Config) -> Vec<String> {
    let all = database_identity::drifts(config).await;
    all.into_iter().filter(|line| !line.contains("definition is CHECK")).collect()
}

fn is_mismatch(error: &Error, id: &str) -> bool {
    matches!(error, Error::Tenant(TenantError::OrganizationMismatch { found, .. }) if found == id)
}

#[tokio::test]
async fn restored_where_it_came_from_it_is_the_tenants_again() {
    let shop = Shop::open().await;
    let Some(dump) = Dump::of_acme(&shop) else { return };
    let raw = Raw::on(&shop.database).await;
    let db = Db::connect(&shop.service(shop.database.name())).await.unwrap();
    raw.run("drop schema tenant_acme cascade").await;
    // The control: it is gone.
    assert!(customers(&db, "acme").await.is_err());
    dump.restore(&shop);
    assert_eq!(customers(&db, "acme").await.unwrap(), 1);
    let operator = shop.database.operator().await.unwrap();
    let run = migrate_all(&operator, &Migrations::bundled()).await.unwrap();
    assert_eq!((run.at_head, run.failed()), (2, 0), "{run:?}");
    assert_eq!(drifts(shop.database.config()).await, Vec::<String>::new());
}

#[tokio::test]
async fn restored_under_another_organization_of_the_same_slug_it_is_refused() {
    let shop = Shop::open().await;
    let Some(dump) = Dump::of_acme(&shop) else { return };
    let raw = Raw::on(&shop.database).await;
    let db = Db::connect(&shop.service(shop.database.name())).await.unwrap();
    let old: String = raw.one("select id::text from organizations where slug = 'acme'").await;
    // As the registry allows it: the schema goes, then the organization.
    raw.run(
        "drop schema tenant_acme cascade; delete from organizations where slug = 'acme';
         insert into organizations (slug, name, status) values ('acme', 'Acme the second', 'active')",
    )
    .await;
    dump.restore(&shop);
    let operator = shop.database.operator().await.unwrap();
    let (bundled, acme) = (Migrations::bundled(), slug("acme"));
    assert!(is_mismatch(&customers(&db, "acme").await.unwrap_err(), &old));
    assert!(is_mismatch(&db.tenant(&acme).query("select 1", &[]).await.unwrap_err(), &old));
    let options = CreateOptions::default();
    assert!(is_mismatch(&lifecycle::create(&operator, &db, &bundled, &acme, &options).await.unwrap_err(), &old));
    let baselined = lifecycle::baseline(&operator, &bundled, &acme, &BaselineOptions::default()).await;
    assert!(is_mismatch(&baselined.unwrap_err(), &old));
    let plan = plan_all(&operator, &bundled).await.unwrap();
    assert!(matches!(&plan.tenants[0].step, Step::Refuse(error) if is_mismatch(error, &old)), "{plan:?}");
    let run = migrate_all(&operator, &bundled).await.unwrap();
    assert!(run.failed() == 1 && is_mismatch(failure(&run, "acme"), &old), "{run:?}");
    let found = drifts(shop.database.config()).await;
    assert!(found.iter().any(|line| line.contains(&format!("belongs to organization {old}"))), "{found:?}");
    assert_eq!(customers(&db, "globex").await.unwrap(), 0);
    // The control: what refuses is the comment that the dump carries.
    raw.run("comment on schema tenant_acme is null").await;
    assert_eq!(customers(&db, "acme").await.unwrap(), 1);
}

#[tokio::test]
async fn restored_into_another_database_it_is_a_strangers_until_it_is_adopted() {
    let (from, to) = (Shop::open().await, Shop::open().await);
    let Some(dump) = Dump::of_acme(&from) else { return };
    let raw = Raw::on(&to.database).await;
    let id: String = Raw::on(&from.database).await.one("select id::text from organizations where slug = 'acme'").await;
    let name = to.database.name().to_owned();
    let (operator, bundled, acme) = (to.database.operator().await.unwrap(), Migrations::bundled(), slug("acme"));
    let db = Db::connect(&to.service(&name)).await.unwrap();

    // Over an organization of that slug it is refused.
    raw.run("drop schema tenant_acme cascade").await;
    dump.restore(&to);
    assert!(is_mismatch(&customers(&db, "acme").await.unwrap_err(), &id));
    assert!(is_mismatch(failure(&migrate_all(&operator, &bundled).await.unwrap(), "acme"), &id));

    // Without one it is named, and nobody enters it.
    raw.run(
        "begin; alter schema tenant_acme rename to aside; delete from organizations where slug = 'acme';
         alter schema aside rename to tenant_acme; commit",
    )
    .await;
    assert!(matches!(customers(&db, "acme").await, Err(Error::Tenant(TenantError::NotFound { .. }))));
    let found = drifts(&to.config(&name)).await;
    assert!(found.iter().any(|line| line.starts_with("schema tenant_acme: of no tenant in the registry")), "{found:?}");

    // The control: by the rights that the dump brings along, the other database's login reads it by hand.
    let role = format!("cgk_acme_{}", cgk::ident::DatabaseTag::of(from.database.name()).as_str());
    assert_eq!(by_hand(&from.url(&name), &role).await, Ok(1));

    // The command that adopts it gives it to the organization that it was dumped from.
    let adopted = lifecycle::baseline(&operator, &bundled, &acme, &BaselineOptions::default()).await.unwrap();
    assert_eq!(adopted.baselining, Baselining::Finished);
    assert_eq!(raw.one::<String>("select id::text from organizations where slug = 'acme'").await, id);
    raw.run("update organizations set status = 'active' where slug = 'acme'").await;
    assert_eq!(customers(&db, "acme").await.unwrap(), 1);
    assert_eq!(drifts(&to.config(&name)).await, Vec::<String>::new());
    assert_eq!(by_hand(&from.url(&name), &role).await, Err("42501".into()));
}
