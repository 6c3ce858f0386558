//! A tenant's schema belongs to an organization, not to a slug: whoever gets the slug of another finds no way to its rows.
//!
//! Each refusal has its control: with the comment taken away from the schema, the same steps go through.

use crate::{
    sandbox::{Files, Raw, migrate_all, plan_all},
    stage::slug,
    support::{
        patience::{must_end, patient_operator},
        score,
    },
};
use cgk::{
    Db, Error, MigrationError, Operator, TenantError, TenantStatus,
    lifecycle::{self, BaselineOptions, Baselining, CreateOptions, Created, Creation, LostSchema},
    migrate::{self, Migrations, Outcome, SchemaState, Silent, Step},
    setup,
    testing::{TestDatabase, TestServer},
};

struct Shop {
    database: TestDatabase,
    operator: Operator,
    db: Db,
    raw: Raw,
}

impl Shop {
    /// A database with the tenants `acme` and `globex`.
    async fn open() -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let db = database.with_tenants(&["acme", "globex"]).await.unwrap();
        let (operator, raw) = (database.operator().await.unwrap(), Raw::on(&database).await);
        raw.run("insert into tenant_acme.customers (email) values ('old@example.com')").await;
        Self { database, operator, db, raw }
    }

    async fn create(&self, name: &str) -> cgk::Result<Created> {
        self.create_with(name, CreateOptions::default()).await
    }

    async fn create_with(&self, name: &str, options: CreateOptions) -> cgk::Result<Created> {
        lifecycle::create(&self.operator, &self.db, &Migrations::bundled(), &slug(name), &options).await
    }

    async fn customers(&self, name: &str) -> cgk::Result<i64> {
        let sql = "select count(*) from customers";
        self.db.with_tenant(&slug(name), async |tx| Ok(tx.query_one(sql, &[]).await?.get(0))).await
    }

    async fn comment(&self, name: &str) -> Option<String> {
        self.raw.one(&format!("select obj_description('tenant_{name}'::regnamespace, 'pg_namespace')")).await
    }

    async fn id(&self, name: &str) -> String {
        self.raw.one(&format!("select id::text from organizations where slug = '{name}'")).await
    }

    async fn setup(&self) -> setup::SetupReport {
        setup::setup(&self.operator, &Migrations::bundled(), &mut Silent).await.unwrap()
    }

    async fn baseline(&self, name: &str) -> cgk::Result<lifecycle::Baselined> {
        lifecycle::baseline(&self.operator, &Migrations::bundled(), &slug(name), &BaselineOptions::default()).await
    }

    /// Runs as the owner does who works around what the registry refuses.
    async fn past_the_registry(&self, sql: &str) {
        self.raw.run(&format!("set session_replication_role = replica; {sql}; reset session_replication_role")).await;
    }
}

fn is_mismatch<T: std::fmt::Debug>(outcome: &cgk::Result<T>, name: &str, id: &str) -> bool {
    matches!(outcome, Err(Error::Tenant(TenantError::OrganizationMismatch { tenant, found, .. })) if *tenant == slug(name) && found == id)
}

#[tokio::test]
async fn a_new_schema_carries_its_organization_and_every_way_to_one_compares_it() {
    let shop = Shop::open().await;
    let old = shop.id("acme").await;
    assert_eq!(shop.comment("acme").await.as_deref(), Some(&*format!("cgk organization {old}")));
    assert_eq!(shop.customers("acme").await.unwrap(), 1);

    shop.past_the_registry(
        "delete from organizations where slug = 'acme';
         insert into organizations (slug, name, status) values ('acme', 'Acme the second', 'active')",
    )
    .await;
    assert!(is_mismatch(&shop.create("acme").await, "acme", &old));
    assert!(is_mismatch(&shop.customers("acme").await, "acme", &old));
    assert!(is_mismatch(&shop.db.tenant(&slug("acme")).query("select 1", &[]).await, "acme", &old));
    assert!(is_mismatch(&shop.baseline("acme").await, "acme", &old));
    score::note(
        14,
        "ways to a schema that another organization had, gone",
        4,
        0,
        "with_tenant, one statement, creation, adoption",
    );
    let state = migrate::read_state(&shop.operator, &Migrations::bundled()).await.unwrap();
    let states: Vec<_> = state.tenants.iter().map(|tenant| &tenant.state).collect();
    assert!(matches!(states[..], [SchemaState::OtherOrganization { found }, SchemaState::AtHead] if *found == old));
    let bound = shop.setup().await.bound;
    assert!(
        bound.bound.is_empty()
            && matches!(bound.failed[..], [(_, Error::Tenant(TenantError::OrganizationMismatch { .. }))]),
        "{bound:?}"
    );

    // The others go on, and the plan names the one that does not.
    let files = Files::of_tenants(&[]);
    for file in Migrations::bundled().set(migrate::Set::Tenant).files() {
        files.tenant(file.path().file_name().unwrap().to_str().unwrap(), file.sql());
    }
    files.tenant("100_more.sql", "create table more ()");
    let migrations = files.load();
    let plan = plan_all(&shop.operator, &migrations).await.unwrap();
    assert!(
        matches!(plan.tenants[0].step, Step::Refuse(Error::Tenant(TenantError::OrganizationMismatch { .. }))),
        "{plan:?}"
    );
    let report = migrate_all(&shop.operator, &migrations).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (1, 1), "{report:?}");

    // The control: what refused is the comment, and nothing else.
    shop.raw.run("comment on schema tenant_acme is null").await;
    assert_eq!(shop.customers("acme").await.unwrap(), 1);
    score::control(14, "the same without the comment on the schema", 1, 1, "the other organization's row");
}

#[tokio::test]
async fn a_slug_or_an_id_that_was_changed_leads_into_no_other_schema() {
    let shop = Shop::open().await;
    let (acme, globex) = (shop.id("acme").await, shop.id("globex").await);
    // The two swap their slugs.
    shop.past_the_registry(
        "update organizations set slug = 'x' where slug = 'acme'; update organizations set slug = 'acme' where slug = 'globex';
         update organizations set slug = 'globex' where slug = 'x'",
    )
    .await;
    assert!(is_mismatch(&shop.customers("acme").await, "acme", &acme));
    assert!(is_mismatch(&shop.customers("globex").await, "globex", &globex));
    shop.past_the_registry(&format!("update organizations set id = gen_random_uuid() where id = '{acme}'")).await;
    assert!(is_mismatch(&shop.create("globex").await, "globex", &globex));

    // A proper drop frees the slug: the next one begins with nothing.
    shop.past_the_registry("drop schema tenant_acme cascade; delete from organizations where slug = 'acme'").await;
    let made = shop.create("acme").await.unwrap();
    assert_eq!((made.creation, shop.customers("acme").await.unwrap()), (Creation::New, 0));
    assert_eq!(shop.comment("acme").await.unwrap(), format!("cgk organization {}", made.tenant.id));
}

#[tokio::test]
async fn schemas_of_an_earlier_version_are_bound_and_keep_their_comments() {
    let shop = Shop::open().await;
    let take_away = "comment on schema tenant_acme is null; comment on schema tenant_globex is 'it''s ours'";
    let ids = [shop.id("acme").await, shop.id("globex").await];
    let bound = [format!("cgk organization {}", ids[0]), format!("cgk organization {}\nit's ours", ids[1])];

    shop.raw.run(take_away).await;
    assert_eq!(shop.customers("acme").await.unwrap(), 1, "an unbound schema is entered");
    let report = shop.setup().await.bound;
    assert_eq!((report.bound.len(), report.failed.len()), (2, 0), "{report:?}");
    assert_eq!([shop.comment("acme").await.unwrap(), shop.comment("globex").await.unwrap()], bound);
    assert!(shop.setup().await.bound.bound.is_empty());

    // By a run that has nothing else to do, too.
    shop.raw.run(take_away).await;
    let report = migrate_all(&shop.operator, &Migrations::bundled()).await.unwrap();
    assert_eq!((report.at_head, report.tenants.len()), (2, 0));
    assert_eq!([shop.comment("acme").await.unwrap(), shop.comment("globex").await.unwrap()], bound);

    // And by the command for one tenant.
    shop.raw.run(take_away).await;
    assert_eq!(shop.create("globex").await.unwrap().creation, Creation::Finished);
    assert_eq!(shop.comment("globex").await.unwrap(), bound[1]);
    assert_eq!(shop.create("globex").await.unwrap().creation, Creation::Existed);

    // A schema without a ledger is nobody's, whatever the registry says of its slug.
    shop.raw.run("comment on schema tenant_acme is null; drop table tenant_acme.schema_migrations").await;
    shop.setup().await;
    assert_eq!(shop.comment("acme").await, None);
}

#[tokio::test]
async fn a_schema_is_bound_by_its_owner_or_the_refusal_says_who_that_is() {
    let shop = Shop::open().await;
    let (name, config) = crate::sandbox::login_role(&shop.database, &shop.raw, "createrole").await;
    let owner = format!("{name}_owner");
    shop.raw
        .run(&format!(
            "create role {owner}; alter schema tenant_acme owner to {owner}; comment on schema tenant_acme is null;
             comment on schema tenant_globex is null; grant create on database \"{}\" to {name};
             grant select on organizations, schema_migrations to {name}; create policy reads on organizations to {name} using (true);
             alter schema tenant_globex owner to {name}",
            shop.database.name()
        ))
        .await;
    let modest = Operator::connect(&config).await.unwrap();
    let report = migrate_all(&modest, &Migrations::bundled()).await;
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(shop.comment("acme").await, None);
    assert!(shop.comment("globex").await.is_some(), "one that cannot be bound holds up no other");
    shop.raw.run(&format!("grant {owner} to {name}")).await;
    migrate_all(&modest, &Migrations::bundled()).await.unwrap();
    assert!(shop.comment("acme").await.is_some());
    shop.raw.run(&format!("drop owned by {owner} cascade; drop role {owner}")).await;
}

#[tokio::test]
async fn a_tenant_in_use_whose_schema_is_gone_is_not_replaced_by_an_empty_one() {
    let shop = Shop::open().await;
    shop.raw.run("drop schema tenant_acme cascade").await;
    for status in ["active", "suspended"] {
        shop.raw.run(&format!("update organizations set status = '{status}' where slug = 'acme'")).await;
        let error = shop.create("acme").await.unwrap_err();
        assert!(
            matches!(&error, Error::Tenant(TenantError::SchemaGone { schema, .. }) if schema.as_str() == "tenant_acme"),
            "{error:?}"
        );
        assert!(!shop.raw.one::<bool>("select to_regnamespace('tenant_acme') is not null").await);
    }
    let (bundled, tenants) = (Migrations::bundled(), [slug("acme").into(), slug("initech").into()]);
    let many = lifecycle::create_many(&shop.operator, &shop.db, &bundled, &tenants, &Default::default(), &mut Silent)
        .await
        .unwrap();
    assert_eq!((many.count(Creation::New), many.failed()), (1, 1), "{many:?}");

    // The way that is said aloud.
    let empty = CreateOptions::default().lost_schema(LostSchema::StartEmpty);
    let made = shop.create_with("acme", empty.clone()).await.unwrap();
    assert_eq!((made.creation, made.tenant.status), (Creation::Finished, TenantStatus::Suspended));
    assert_eq!(shop.comment("acme").await.unwrap(), format!("cgk organization {}", shop.id("acme").await));
    shop.raw.run("update organizations set status = 'active' where slug = 'acme'").await;
    assert_eq!(shop.customers("acme").await.unwrap(), 0);

    // It gives nobody else's schema up.
    assert_eq!(shop.create_with("globex", empty).await.unwrap().creation, Creation::Existed);
}

#[tokio::test]
async fn a_restored_schema_is_adopted_by_the_organization_that_it_was_dumped_from() {
    let shop = Shop::open().await;
    let old = shop.id("acme").await;
    // As a dump of the schema alone brings it into a database that has no row for it.
    shop.past_the_registry("delete from organizations where slug = 'acme'").await;
    assert_eq!(shop.baseline("acme").await.unwrap().baselining, Baselining::Finished);
    assert_eq!(shop.id("acme").await, old);
    assert_eq!(shop.customers("acme").await.unwrap(), 1);

    // Restored as a second tenant, beside the first.
    shop.raw.run("alter schema tenant_globex rename to tenant_copy").await;
    let error = shop.baseline("copy").await.unwrap_err();
    assert!(
        matches!(&error, Error::Migration(MigrationError::LedgerRefused { why, .. }) if why.to_string().contains("tenant globex")),
        "{error:?}"
    );
    shop.raw.run("comment on schema tenant_copy is 'cgk organization x'").await;
    let error = shop.baseline("copy").await.unwrap_err();
    assert!(
        matches!(&error, Error::Migration(MigrationError::LedgerRefused { why, .. }) if why.to_string().contains("is not a valid id")),
        "{error:?}"
    );
    // The control.
    shop.raw.run("comment on schema tenant_copy is null").await;
    assert_eq!(shop.baseline("copy").await.unwrap().baselining, Baselining::Finished);
    assert_eq!(shop.comment("copy").await.unwrap(), format!("cgk organization {}", shop.id("copy").await));
    assert!(shop.create("globex").await.is_err(), "its schema was moved away");
}

/// Two at once on one schema: whoever comes second finds it bound.
#[tokio::test]
async fn runs_that_bind_at_once_do_not_disturb_each_other() {
    let shop = Shop::open().await;
    let other = crate::support::patience::patient_operator(&shop.database).await;
    for round in 0..10 {
        shop.raw.run("comment on schema tenant_acme is null; comment on schema tenant_globex is null").await;
        let bundled = Migrations::bundled();
        let (one, two) = tokio::join!(migrate_all(&shop.operator, &bundled), migrate_all(&other, &bundled));
        for report in [one.unwrap(), two.unwrap()] {
            let failed = report.tenants.iter().find(|tenant| matches!(tenant.result, Outcome::Failed { .. }));
            assert!(failed.is_none(), "round {round}: {failed:?}");
        }
        assert!(shop.comment("acme").await.is_some() && shop.comment("globex").await.is_some(), "round {round}");
    }
}

/// Between the look at the registry and the message that makes the schema the slug may change hands: the schema is made for
/// whoever has it then.
#[tokio::test]
async fn a_slug_that_changes_hands_while_its_creation_waits_gets_the_schema_of_the_new_organization() {
    let shop = Shop::open().await;
    let insert = |name: &str| format!("insert into organizations (slug, name) values ('hooli', '{name}')");
    shop.raw.run(&insert("first")).await;
    let holder = Raw::on(&shop.database).await;
    let key = cgk::lock::migration_key(&cgk::ident::SchemaName::of_tenant(&slug("hooli")));
    holder.run(&format!("select pg_advisory_lock({key})")).await;
    let operator = patient_operator(&shop.database).await;
    let db = shop.db.clone();
    let creation = tokio::spawn(async move {
        let options = CreateOptions::default();
        lifecycle::create(&operator, &db, &Migrations::bundled(), &slug("hooli"), &options).await
    });
    let waiting = "select exists (select from pg_locks where locktype = 'advisory' and not granted
                   and database = (select oid from pg_database where datname = current_database()))";
    shop.raw.wait_until(waiting).await;
    shop.raw.run(&format!("delete from organizations where slug = 'hooli'; {}", insert("second"))).await;
    holder.run(&format!("select pg_advisory_unlock({key})")).await;
    must_end("the creation", creation).await.unwrap().unwrap();
    let id: String = shop.raw.one("select id::text from organizations where slug = 'hooli' and name = 'second'").await;
    let comment: String = shop.raw.one("select obj_description('tenant_hooli'::regnamespace)").await;
    assert_eq!(comment, format!("cgk organization {id}"));
    assert_eq!(shop.db.platform().find_tenant(&slug("hooli")).await.unwrap().status, TenantStatus::Active);
}
