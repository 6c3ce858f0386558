//! What a context does to the transactions of its tenant, and that it opens no other's.

use crate::{
    stage::{Stage, dice, slug},
    support::patience::must_end,
};
use cgk::{
    Db, Error, ErrorKind, OrganizationId, TenantContext, TenantError, TxOptions, UserId,
    auth::TenantIdentity,
    config::{Isolation, Pooling},
    login::SharedTables,
};
use rand::RngExt;
use uuid::Uuid;

const USER: &str = "select nullif(current_setting('app.current_user_id', true), '')";
const ADD: &str = "insert into marks (tag, n) values ('context', 1)";

async fn context(stage: &Stage, name: &str) -> TenantContext {
    let row = stage.watch.query_one("select id from organizations where slug = $1", &[&name]).await.unwrap();
    TenantContext::new(OrganizationId(row.get(0)), slug(name))
}

/// Every kind of handle, the one behind a pooler included.
async fn handles(stage: &Stage) -> Vec<(&'static str, Db)> {
    let mut handles = stage.handles().await;
    let config = stage.config().with_pooling(Pooling::Transaction);
    handles.push(("pooler", Db::connect(&config).await.unwrap()));
    handles
}

/// The user that a transaction and a single statement of a tenant see.
async fn users(db: &Db, tenant: &str) -> [Option<String>; 3] {
    let tenant = slug(tenant);
    let body = async |tx: &mut cgk::TenantTx<'_>| Ok(tx.query_typed(USER, &[]).await?[0].get(0));
    let serializable = TxOptions::default().serializable();
    [
        db.with_tenant(&tenant, async |tx| Ok(tx.query_typed(USER, &[]).await?[0].get(0))).await.unwrap(),
        db.tenant(&tenant).query_typed(USER, &[]).await.unwrap()[0].get(0),
        db.with_tenant_in(&tenant, &serializable, body).await.unwrap(),
    ]
}

#[tokio::test]
async fn a_transaction_of_its_tenant_knows_the_user_and_no_other_does() {
    let stage = Stage::set().await;
    let id = UserId(Uuid::from_u128(7));
    let ada = context(&stage, "acme").await.user(id, "ada@example.com");
    let program = context(&stage, "acme").await;
    for (kind, db) in handles(&stage).await {
        let (nothing, known) = ([None, None, None], [(); 3].map(|()| Some(id.to_string())));
        assert_eq!(ada.scope(users(&db, "acme")).await, known, "{kind}");
        assert_eq!(ada.scope(users(&db, "globex")).await, nothing, "{kind}");
        assert_eq!(program.scope(users(&db, "acme")).await, nothing, "{kind}");
        assert_eq!(users(&db, "acme").await, nothing, "{kind}: the next user of the connection");
        // A user of the session's own is none of the context's.
        let own = "set app.current_user_id = 'stale'";
        let _ = db.tenant(&slug("globex")).execute_typed(own, &[]).await;
        assert_eq!(program.scope(users(&db, "acme")).await, nothing, "{kind}");
        let platform = db.platform();
        assert_eq!(
            ada.scope(platform.query_typed(USER, &[])).await.unwrap()[0].get::<_, Option<String>>(0),
            None,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn the_handle_enters_the_contexts_tenant_wherever_it_is_used() {
    let stage = Stage::set().await;
    let (acme, globex) = (context(&stage, "acme").await, context(&stage, "globex").await);
    let app = stage.app(Isolation::Role, SharedTables::All).await;
    let error = app.current().err().unwrap();
    assert!(matches!(error, Error::Tenant(TenantError::NoContext)), "{error:?}");
    let tag = "select tag from marks where n = 0";
    let current = acme.scope(async { app.current().unwrap() }).await;
    assert_eq!(current.context().slug.as_str(), "acme");
    // Outside of the scope, and inside another one.
    for outer in [None, Some(&globex)] {
        let asked = async {
            let one: String = current.query_one(tag, &[]).await.unwrap().get(0);
            let two: String = current.transaction(async |tx| Ok(tx.query_one(tag, &[]).await?.get(0))).await.unwrap();
            let read_only = TxOptions::default().read_only();
            let three: String =
                current.transaction_in(&read_only, async |tx| Ok(tx.query_one(tag, &[]).await?.get(0))).await.unwrap();
            let four: Vec<(String,)> = current.query_as(tag, &[]).await.unwrap();
            let five: String = current.query(tag, &[]).await.unwrap()[0].get(0);
            let six: String = current.query_opt(tag, &[]).await.unwrap().unwrap().get(0);
            let seven: String = current.query_typed(tag, &[]).await.unwrap()[0].get(0);
            [one, two, three, four[0].0.clone(), five, six, seven]
        };
        let found = match outer {
            Some(outer) => outer.scope(asked).await,
            None => asked.await,
        };
        assert!(found.iter().all(|tag| tag == "acme"), "{found:?}");
    }
    let changed = [current.execute(ADD, &[]).await.unwrap(), current.execute_typed(ADD, &[]).await.unwrap()];
    assert_eq!((changed, stage.marks("acme", "context").await), ([1, 1], (2, 0)));
}

/// What a request has found is entered as that organization, and not as the one that has its slug by now.
#[tokio::test]
async fn a_tenant_that_was_found_is_not_the_one_that_is_created_under_its_slug() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let tag = "select tag from marks where n = 0";
    for (kind, db) in handles(&stage).await {
        let found = TenantIdentity::from(&stage.db.platform().find_tenant(&acme).await.unwrap());
        let user = UserId(Uuid::from_u128(7));
        let context = TenantContext::new(found.id, acme.clone()).user(user, "ada@example.com");
        let tenant = db.tenant_of(&found);
        assert_eq!(tenant.query_typed(tag, &[]).await.unwrap()[0].get::<_, String>(0), "acme", "{kind}");
        let seen = |rows: Vec<tokio_postgres::Row>| rows[0].get::<_, Option<String>>(0);
        assert_eq!(seen(tenant.query_typed(USER, &[]).await.unwrap()), None, "{kind}");
        // In its context it has the user, and in another one's none.
        let in_context =
            |context: TenantContext| context.scope(async { db.tenant_of(&found).query_typed(USER, &[]).await });
        assert_eq!(seen(in_context(context).await.unwrap()), Some(user.to_string()), "{kind}");
        let globex = self::context(&stage, "globex").await.user(user, "ada@example.com");
        assert_eq!(seen(in_context(globex).await.unwrap()), None, "{kind}");

        // The guard of the registry lets no organization go whose schema stands.
        stage
            .sql(
                "begin; alter schema tenant_acme rename to aside;
                 update organizations set id = gen_random_uuid() where slug = 'acme';
                 alter schema aside rename to tenant_acme;
                 do $$ begin execute format('comment on schema tenant_acme is %L',
                     'cgk organization ' || (select id from organizations where slug = 'acme')); end $$; commit",
            )
            .await;
        let other = self::context(&stage, "acme").await.organization_id;
        assert_ne!(other, found.id, "{kind}");
        let mut refused = Vec::new();
        for context in [TenantContext::new(found.id, acme.clone()), TenantContext::new(other, acme.clone())] {
            let asked = async {
                let tenant = db.tenant_of(&found);
                let body = async |tx: &mut cgk::TenantTx<'_>| tx.execute_typed(ADD, &[]).await;
                [tenant.execute_typed(ADD, &[]).await, tenant.transaction(body).await]
            };
            refused.extend(context.scope(asked).await);
        }
        for outcome in refused {
            assert_eq!(outcome.unwrap_err().code(), "CGK0410", "{kind}");
        }
        // The control: by the slug alone the other organization is entered.
        assert_eq!(db.tenant(&acme).execute_typed(ADD, &[]).await.unwrap(), 1, "{kind}");
        assert_eq!(stage.marks("acme", "context").await, (1, 0), "{kind}");
        stage.sql("delete from tenant_acme.marks where tag = 'context'").await;
    }
}

/// The slug of the context is another organization's by now.
#[tokio::test]
async fn a_stale_context_runs_no_statement() {
    let stage = Stage::set().await;
    let current = context(&stage, "acme").await;
    let stale = TenantContext::new(OrganizationId(Uuid::from_u128(1)), slug("acme"));
    for (kind, db) in handles(&stage).await {
        let acme = slug("acme");
        let refused = async |context: &TenantContext| {
            let entered = TxOptions::default().wait_for_entry();
            let repeatable = TxOptions::default().repeatable_read();
            let mut outcomes: Vec<Result<u64, Error>> = Vec::new();
            let add = async |tx: &mut cgk::TenantTx<'_>| tx.execute_typed(ADD, &[]).await;
            outcomes.push(context.scope(db.with_tenant(&acme, async |tx| tx.execute_typed(ADD, &[]).await)).await);
            outcomes.push(context.scope(db.with_tenant_in(&acme, &entered, add)).await);
            outcomes.push(context.scope(db.with_tenant_in(&acme, &repeatable, add)).await);
            outcomes.push(context.scope(db.tenant(&acme).execute_typed(ADD, &[])).await);
            outcomes.push(context.scope(async { db.current()?.execute_typed(ADD, &[]).await }).await);
            outcomes.push(context.scope(async { db.current()?.transaction(add).await }).await);
            outcomes
        };
        for outcome in refused(&stale).await {
            let error = outcome.unwrap_err();
            let Error::Tenant(TenantError::ContextStale { expected, found, .. }) = &error else {
                panic!("{kind}: {error:?}")
            };
            assert_eq!((*expected, *found), (stale.organization_id, current.organization_id), "{kind}");
            assert_eq!((error.code(), error.kind()), ("CGK0410", ErrorKind::Conflict), "{kind}");
        }
        assert_eq!(stage.marks("acme", "context").await, (0, 0), "{kind}");
        // The body that waits does not even begin; one that ignores the refusal commits nothing.
        let ignored = stale.scope(db.with_tenant(&acme, async |tx| {
            let _ = tx.execute_typed(ADD, &[]).await;
            Ok(())
        }));
        assert_eq!(ignored.await.unwrap_err().code(), "CGK0410", "{kind}");
        // The control: the same calls in the context of the organization.
        assert!(refused(&current).await.iter().all(|outcome| matches!(outcome, Ok(1))), "{kind}");
        assert_eq!(stage.marks("acme", "context").await, (6, 0), "{kind}");
        stage.sql("delete from tenant_acme.marks where tag = 'context'").await;
        if kind != "pooler" {
            // The connection is as good as before.
            stage.next_user(&stage.db, "globex").await;
        }
        assert!(db.tenant(&acme).query_typed("select 1", &[]).await.is_ok(), "{kind}");
    }
}

#[tokio::test]
async fn a_tenant_that_was_suspended_meanwhile_is_refused_by_the_registry() {
    let stage = Stage::set().await;
    let acme = context(&stage, "acme").await;
    let outcome = acme
        .scope(async {
            stage.db.current()?.query("select 1", &[]).await?;
            stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
            stage.db.current()?.query("select 1", &[]).await
        })
        .await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Suspended);
    let unknown = TenantContext::new(acme.organization_id, slug("nobody"));
    let outcome = unknown.scope(async { stage.db.current()?.query("select 1", &[]).await }).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Requests of two tenants on a few connections, some of them dropped: each sees its own rows and its own user.
#[tokio::test]
async fn requests_at_once_see_their_own() {
    let stage = Stage::set().await;
    let db: Db = Db::connect(&stage.config().with_pool_size_max(3)).await.unwrap();
    let contexts = [context(&stage, "acme").await, context(&stage, "globex").await];
    let mut dice = dice();
    let tasks: Vec<_> = (0..200_u128)
        .map(|n| {
            let (at, dropped) = (usize::from(dice.random::<bool>()), dice.random_range(0..5) == 0);
            let user = UserId(Uuid::from_u128(n + 1));
            let context = contexts[at].clone().user(user, "x@example.com");
            let db = db.clone();
            context.spawn(async move {
                let here = TenantContext::current().unwrap();
                let sql = "select tag, current_setting('app.current_user_id', true), current_setting('app.current_organization_id')
                             from marks where n = 0";
                let current = db.current().unwrap();
                let asked = current.query_typed(sql, &[]);
                if dropped {
                    let _ = futures_util::FutureExt::now_or_never(asked);
                    return;
                }
                let rows = asked.await.unwrap();
                let found: (String, String, String) = (rows[0].get(0), rows[0].get(1), rows[0].get(2));
                assert_eq!(found, (here.slug.to_string(), user.to_string(), here.organization_id.to_string()));
            })
        })
        .collect();
    for task in tasks {
        must_end("a request", task).await.unwrap();
    }
}
