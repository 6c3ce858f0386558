//! One busy tenant and the others: `pool.tenant_connections_max`.

use crate::{
    stage::{Stage, slug},
    support::patience::{HANG, must_end},
};
use cgk::{ConnectionError, Db, Error};
use futures_util::FutureExt as _;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What two calls of acme at once, then one of globex and one of the platform end with. Those of acme hold what they have until all
/// have ended.
async fn beside_two_of_acme(db: &Db) -> ([cgk::Result<()>; 2], cgk::Result<i32>, cgk::Result<()>) {
    let (acme, globex) = (slug("acme"), slug("globex"));
    let (settled, ended) = (Semaphore::new(0), Semaphore::new(0));
    let busy = async || {
        let outcome = db
            .with_tenant(&acme, async |tx| {
                tx.query("select 1", &[]).await?;
                settled.add_permits(1);
                ended.acquire().await.unwrap().forget();
                Ok(())
            })
            .await;
        settled.add_permits(1);
        outcome
    };
    let others = async {
        settled.acquire_many(2).await.unwrap().forget();
        let answer = db.tenant(&globex).query_one("select 1", &[]).await.map(|row| row.get(0));
        let platform = db.ping().await;
        ended.add_permits(2);
        (answer, platform)
    };
    let (first, second, (answer, platform)) = must_end("all", async { tokio::join!(busy(), busy(), others) }).await;
    ([first, second], answer, platform)
}

#[tokio::test]
async fn a_busy_tenant_leaves_the_others_their_connections() {
    let wait = Duration::from_millis(100);
    let stage =
        Stage::set_with(|config| config.with_pool_wait(wait).with_pool_size_max(2).with_tenant_connections_max(1))
            .await;
    let ([first, second], answer, platform) = beside_two_of_acme(&stage.db).await;
    first.unwrap();
    let refused = second.unwrap_err();
    assert!(
        matches!(&refused, Error::Connection(ConnectionError::TenantLimit { tenant, connections_max: 1, waited })
            if tenant.as_str() == "acme" && *waited == wait),
        "{refused:?}"
    );
    assert_eq!((refused.code(), refused.is_retryable()), ("CGK0210", true));
    assert_eq!(answer.unwrap(), 1);
    platform.unwrap();

    // The control: without the limit, the tenant has the whole pool.
    let unlimited = Stage::set_with(|config| config.with_pool_wait(wait).with_pool_size_max(2)).await;
    let (busy, answer, platform) = beside_two_of_acme(&unlimited.db).await;
    busy.into_iter().collect::<cgk::Result<Vec<_>>>().unwrap();
    for refused in [answer.map(drop).unwrap_err(), platform.unwrap_err()] {
        assert!(matches!(refused, Error::Connection(ConnectionError::PoolTimeout { .. })), "{refused:?}");
    }
}

/// Each call below waits for as long as the one before it keeps its place.
#[tokio::test]
async fn every_end_of_a_call_gives_its_place_back() {
    let patient = |wait| {
        move |config: cgk::Config| config.with_pool_wait(wait).with_pool_size_max(2).with_tenant_connections_max(1)
    };
    let stage = Stage::set_with(patient(HANG * 2)).await;
    let (db, acme) = (&stage.db, slug("acme"));
    let next = async |after: &str| {
        let row = must_end(after, db.tenant(&acme).query_one("select 1", &[])).await;
        assert_eq!(row.unwrap_or_else(|error| panic!("{after}: {error:?}")).get::<_, i32>(0), 1);
    };
    next("nothing").await;
    let failed = db.with_tenant(&acme, async |_| Err::<(), _>(Error::Application("no".into()))).await;
    assert!(failed.is_err());
    next("a body that fails").await;
    assert!(db.tenant(&acme).execute("select 1 / 0", &[]).await.is_err());
    next("a statement that fails").await;
    let panics = {
        let (db, acme) = (db.clone(), acme.clone());
        async move { db.with_tenant(&acme, async |_| -> cgk::Result<()> { panic!("on purpose") }).await }
    };
    assert!(tokio::spawn(panics).await.unwrap_err().is_panic());
    next("a panic").await;
    // Dropped while its statement runs, and while it waits for its place.
    let tenant = db.tenant(&acme);
    tokio::select! {
        ended = tenant.execute("select pg_sleep(600)", &[]) => panic!("it ended: {ended:?}"),
        _ = stage.until_running("pg_sleep(600)") => {}
    }
    next("a statement that was dropped").await;
    db.with_tenant(&acme, async |tx| {
        tx.query("select 1", &[]).await?;
        assert!(db.tenant(&acme).query("select 1", &[]).now_or_never().is_none());
        Ok(())
    })
    .await
    .unwrap();
    next("a call that was dropped while it waited").await;
    // A tenant that does not exist, and one inside of itself, which can never have a second place.
    assert!(db.tenant(&slug("nobody")).query("select 1", &[]).await.is_err());
    let stage = Stage::set_with(patient(Duration::from_millis(100))).await;
    let inner = async || stage.db.tenant(&acme).query("select 1", &[]).await;
    let nested = stage.db.with_tenant(&acme, async |_| Ok(inner().await)).await.unwrap();
    assert!(matches!(nested, Err(Error::Connection(ConnectionError::TenantLimit { .. }))), "{nested:?}");
    inner().await.unwrap();
}
