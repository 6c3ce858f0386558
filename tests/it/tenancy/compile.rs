//! The shapes in which services call `with_tenant`: that this file compiles is most of the test; it also runs.

use crate::stage::{Stage, slug};
use cgk::{Db, Error, TenantContext, TenantError, TenantFn, TenantSlug, TenantTx, current_tenant};
use futures_util::StreamExt;
use std::{fmt, future::Future, pin::Pin, rc::Rc, sync::Arc};
use tokio::task::JoinSet;

/// A service's own error, fixed once in the type of its handle.
#[derive(Debug)]
enum AppError {
    Database(Error),
    Refused(String),
}

impl From<Error> for AppError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "{error}"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for AppError {}

type AppDb = Db<AppError>;

fn send_sync_clone<T: Send + Sync + Clone + 'static>(_: &T) {}
fn send<T: Send>(future: T) -> T {
    future
}

const _: () = {
    const fn is_send_sync_clone<T: Send + Sync + Clone>() {}
    const fn is_send<T: Send>() {}
    is_send_sync_clone::<Db>();
    is_send_sync_clone::<AppDb>();
    is_send_sync_clone::<TenantSlug>();
    is_send_sync_clone::<TenantContext>();
    is_send::<TenantTx<'static>>();
    is_send::<cgk::Savepoint<'static, cgk::TenantTx<'static>>>();
    is_send::<cgk::Rows<'static>>();
    is_send::<cgk::CopyOut<'static>>();
    is_send::<cgk::CopyIn<'static, bytes::Bytes>>();
};

// An async fn item.
async fn add(tx: &mut TenantTx<'_>) -> Result<u64, AppError> {
    Ok(tx.execute("insert into marks (tag, n) values ('item', 1)", &[]).await?)
}

// A helper that takes the transaction, called more than once.
async fn mark(tx: &mut TenantTx<'_>, tag: &str) -> Result<(), AppError> {
    let part = tx.savepoint().await?;
    part.execute("insert into marks (tag, n) values ($1, 1)", &[&tag]).await?;
    Ok(part.release().await?)
}

async fn count(tx: &TenantTx<'_>) -> Result<i64, Error> {
    Ok(tx.query_one("select count(*) from marks", &[]).await?.get(0))
}

// A wrapper of the service's own, generic over the body.
async fn logged<T: Send>(db: &AppDb, slug: &TenantSlug, body: impl TenantFn<T, AppError>) -> Result<T, AppError> {
    db.with_tenant(slug, body).await
}

// The same that promises Send.
#[expect(clippy::manual_async_fn, reason = "the promise is what is tested")]
fn promised<'a, T: Send + 'a, F: TenantFn<T, AppError> + 'a>(
    db: &'a AppDb,
    slug: &'a TenantSlug,
    body: F,
) -> impl Future<Output = Result<T, AppError>> + Send + 'a {
    async move { db.with_tenant(slug, body).await }
}

// Wrapped in a body that adds a statement of its own.
async fn audited<T: Send>(db: &AppDb, slug: &TenantSlug, body: impl TenantFn<T, AppError>) -> Result<T, AppError> {
    db.with_tenant(slug, async |tx| {
        let value = body(tx).await?;
        mark(tx, "audit").await?;
        Ok(value)
    })
    .await
}

/// A repository with several borrowed arguments.
struct Marks {
    db: AppDb,
}

impl Marks {
    async fn rename(&self, slug: &TenantSlug, from: &str, to: &str) -> Result<u64, AppError> {
        self.db
            .with_tenant(slug, async |tx| {
                if from == to {
                    return Err(AppError::Refused("the same".into()));
                }
                Ok(tx.execute("update marks set tag = $2 where tag = $1", &[&from, &to]).await?)
            })
            .await
    }
}

/// As `async_trait` writes it.
trait Repository: Sync {
    fn total<'a>(&'a self, slug: &'a TenantSlug) -> Pin<Box<dyn Future<Output = Result<i64, AppError>> + Send + 'a>>;
}

impl Repository for Marks {
    fn total<'a>(&'a self, slug: &'a TenantSlug) -> Pin<Box<dyn Future<Output = Result<i64, AppError>> + Send + 'a>> {
        Box::pin(async move { self.db.with_tenant(slug, async |tx| Ok(count(tx).await?)).await })
    }
}

async fn app() -> (Stage, AppDb, TenantSlug) {
    let stage = Stage::set_with(|config| config.with_pool_size_max(4)).await;
    let db: AppDb = stage.db.errors();
    send_sync_clone(&db);
    (stage, db, slug("acme"))
}

#[tokio::test]
async fn spawned_with_and_without_captures() {
    let (_stage, db, acme) = app().await;
    let (spawned, tenant) = (db.clone(), acme.clone());
    tokio::spawn(async move { spawned.with_tenant(&tenant, add).await }).await.unwrap().unwrap();
    // Borrowing from the task.
    let (spawned, tenant, tag) = (db.clone(), acme.clone(), String::from("borrowed"));
    let task = tokio::spawn(async move {
        let name = &tag;
        spawned.with_tenant(&tenant, async |tx| mark(tx, name).await).await?;
        Ok::<_, AppError>(tag)
    });
    task.await.unwrap().unwrap();
    // Owning.
    let (spawned, tenant, tag) = (db.clone(), acme.clone(), String::from("owned"));
    let task = tokio::spawn(async move { spawned.with_tenant(&tenant, async move |tx| mark(tx, &tag).await).await });
    task.await.unwrap().unwrap();
    let total = db.with_tenant(&acme, async |tx| Ok(count(tx).await?)).await.unwrap();
    assert_eq!(total, 4);
}

#[tokio::test]
async fn sets_of_tasks_and_joined_tenants() {
    let (stage, db, acme) = app().await;
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let (db, tag) = (db.clone(), format!("set{n}"));
        tasks.spawn(async move { db.with_tenant(&slug("acme"), async |tx| mark(tx, &tag).await).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    let globex = slug("globex");
    // Not `tokio::join!`: beside an async closure it makes rustc 1.95 stop with an internal error in incremental builds.
    let (a, b) = futures_util::future::join(
        db.with_tenant(&acme, async |tx| Ok(count(tx).await?)),
        db.with_tenant(&globex, async |tx| Ok(count(tx).await?)),
    )
    .await;
    assert_eq!((a.unwrap(), b.unwrap()), (9, 1));
    assert_eq!(stage.number("select count(*) from public.marks where n > 0").await, 0);
}

#[tokio::test]
async fn wrappers_and_repositories() {
    let (_stage, db, acme) = app().await;
    let repository = Arc::new(Marks { db: db.clone() });
    logged(&db, &acme, add).await.unwrap();
    let (spawned, tenant) = (db.clone(), acme.clone());
    tokio::spawn(async move { logged(&spawned, &tenant, async |tx| mark(tx, "a").await).await })
        .await
        .unwrap()
        .unwrap();
    let (spawned, tenant) = (db.clone(), acme.clone());
    tokio::spawn(async move { send(promised(&spawned, &tenant, async |tx| mark(tx, "b").await)).await })
        .await
        .unwrap()
        .unwrap();
    let (spawned, tenant, tag) = (db.clone(), acme.clone(), String::from("c"));
    tokio::spawn(async move { audited(&spawned, &tenant, async |tx| mark(tx, &tag).await).await })
        .await
        .unwrap()
        .unwrap();
    let (shared, tenant) = (Arc::clone(&repository), acme.clone());
    let renamed = tokio::spawn(async move { shared.rename(&tenant, "c", "d").await }).await.unwrap().unwrap();
    assert_eq!(renamed, 1);
    let refused = repository.rename(&acme, "d", "d").await.unwrap_err();
    assert!(matches!(&refused, AppError::Refused(why) if why == "the same"), "{refused}");
    let (boxed, tenant): (Arc<dyn Repository + Send>, _) = (repository, acme.clone());
    let total = tokio::spawn(async move { boxed.total(&tenant).await }).await.unwrap().unwrap();
    assert_eq!(total, 6);
}

#[tokio::test]
async fn captures_of_every_kind() {
    let (_stage, db, acme) = app().await;
    let (mut seen, (sender, mut receiver)) = (Vec::new(), tokio::sync::mpsc::channel(4));
    let (numbers, kept): (&'static [i32], _) = (&[1, 2], Some("optional"));
    let result = db
        .with_tenant(&acme, async |tx| {
            for tag in numbers.iter().map(|n| format!("n{n}")).chain(kept.map(String::from)) {
                mark(tx, &tag).await?;
                seen.push(tag.clone());
                let _ = sender.send(tag).await;
            }
            // A stream, and a question mark on an error that is not the application's.
            let mut rows = std::pin::pin!(tx.query_raw("select tag from marks", &[]).await?);
            let mut tags = 0;
            while let Some(row) = rows.next().await {
                row?;
                tags += 1;
            }
            let n: i32 = "7".parse().map_err(|error| AppError::Refused(format!("{error}")))?;
            Ok((tags, n))
        })
        .await
        .unwrap();
    assert_eq!((result, seen.len()), ((4, 7), 3));
    assert_eq!(receiver.recv().await.unwrap(), "n1");
}

#[tokio::test]
async fn nested_timed_and_selected() {
    let (_stage, db, acme) = app().await;
    let globex = slug("globex");
    assert!(current_tenant().is_none());
    let task_db = db.clone();
    let nested = tokio::spawn(async move {
        task_db
            .with_tenant(&acme, async |tx| {
                let inner = task_db
                    .with_tenant(&globex, async |tx| {
                        assert_eq!(current_tenant().unwrap(), *tx.slug());
                        Ok(count(tx).await?)
                    })
                    .await?;
                assert_eq!(current_tenant().unwrap().as_str(), "acme");
                Ok(inner + count(tx).await?)
            })
            .await
    });
    assert_eq!(nested.await.unwrap().unwrap(), 2);
    let task_db = db.clone();
    let raced = tokio::spawn(async move {
        let acme = slug("acme");
        let timed = tokio::time::timeout(crate::support::patience::HANG, task_db.with_tenant(&acme, add)).await;
        tokio::select! {
            biased;
            slow = task_db.with_tenant(&acme, async |tx| Ok(tx.query("select pg_sleep(5)", &[]).await?.len())) => drop(slow),
            () = std::future::ready(()) => {}
        }
        timed.is_ok_and(|outcome| outcome.is_ok())
    });
    assert!(raced.await.unwrap());
}

/// The error type needs no name anywhere: it follows from the handle, also behind an outer question mark, and the library's
/// own error and `Box<dyn Error>` work as well.
#[tokio::test]
async fn error_types_are_inferred() {
    let (stage, db, acme) = app().await;
    async fn outer(db: &AppDb, slug: &TenantSlug) -> Result<i64, Box<dyn std::error::Error>> {
        let total: i64 = db
            .with_tenant(slug, async |tx| {
                let total = count(tx).await?;
                if total == 0 {
                    return Err(AppError::Refused("empty".into()));
                }
                Ok(total)
            })
            .await?;
        Ok(total)
    }
    assert_eq!(outer(&db, &acme).await.unwrap(), 1);
    let own = stage.db.with_tenant(&acme, async |tx| count(tx).await).await;
    assert_eq!(own.unwrap(), 1);
    let boxed: Db<Box<dyn std::error::Error + Send + Sync>> = db.errors();
    let error = boxed.with_tenant(&acme, async |_| Err::<(), _>("plain text".into())).await.unwrap_err();
    assert_eq!(error.to_string(), "plain text");
    let error = db.with_tenant(&slug("nobody"), async |_| Ok(())).await.unwrap_err();
    assert!(matches!(error, AppError::Database(Error::Tenant(TenantError::NotFound { .. }))));
}

/// What is not Send may stay outside, and inside as long as no await crosses it.
#[tokio::test]
async fn what_is_not_send_may_be_used_between_awaits() {
    let (_stage, db, acme) = app().await;
    let outside = Rc::new(1_i64);
    let total = db
        .with_tenant(&acme, async |tx| {
            let total = count(tx).await?;
            let inside = Rc::new(total);
            Ok(*inside + 1)
        })
        .await
        .unwrap();
    assert_eq!(total + *outside, 3);
}

/// The futures are Send and not large: they live in every request of a service.
#[tokio::test]
async fn the_future_is_send_and_small() {
    let (_stage, db, acme) = app().await;
    let future = send(db.with_tenant(&acme, add));
    let size = std::mem::size_of_val(&future);
    assert!(size < 8192, "{size} bytes");
    future.await.unwrap();
}
