//! The service under test: notes of each tenant, and a route for each thing that a handler can be given.

use crate::stage::{Stage, rules};
use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::IntoResponse,
    routing::get,
};
use cgk::{
    Db, OrganizationId, TenantContext, TxOptions,
    axum::{Caller, Context, Owner, OwnerOrAdmin, Problem, Require, Requirement, Tenant, TenantDb, TenantLayer},
    ownership::Owned,
    request::Identity,
};
use http::{StatusCode, header};
use serde_json::{Value, json};

/// A record of a shared table.
#[derive(Clone, Copy)]
pub(crate) struct Invoice {
    organization: OrganizationId,
}

impl Owned for Invoice {
    const RESOURCE: &'static str = "invoice";

    fn organization_id(&self) -> OrganizationId {
        self.organization
    }
}

#[derive(Clone)]
pub(crate) struct App {
    db: Db,
    /// Whose the one invoice is.
    invoice: Invoice,
}

pub(crate) struct Program;

impl Requirement for Program {
    fn is_met_by(caller: &Identity) -> bool {
        matches!(caller, Identity::ApiKey(_))
    }
}

/// The routes, behind no layer.
pub(crate) fn routes(stage: &Stage) -> Router {
    let state = App { db: stage.db.clone(), invoice: Invoice { organization: stage.of["globex"].organization } };
    Router::new()
        .route("/notes", get(list).post(create))
        .route("/notes/{id}", get(read).put(change).delete(remove))
        .route("/tenant", get(async |Tenant(tenant): Tenant| tenant.slug.to_string()))
        .route("/caller", get(caller))
        .route("/context", get(context))
        .route("/spawned", get(spawned))
        .route("/streamed", get(streamed))
        .route("/calls", get(calls))
        .route("/owner", get(async |_: Require<Owner>| "owner"))
        .route("/admin", get(async |_: Require<OwnerOrAdmin>| "admin"))
        .route("/program", get(async |_: Require<Program>| "program"))
        .route("/invoice", get(show_invoice).delete(cancel_invoice))
        .with_state(state)
}

pub(crate) fn layer(stage: &Stage) -> TenantLayer {
    TenantLayer::new(rules(), &stage.resolver, &stage.db)
}

/// The whole service.
pub(crate) fn service(stage: &Stage) -> Router {
    routes(stage).layer(layer(stage)).route("/health", get(async || "well"))
}

fn answer(json: &Value) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/json")], json.to_string())
}

async fn list(db: TenantDb) -> Result<impl IntoResponse, Problem> {
    let mut notes = Vec::new();
    for row in db.query("select id, body from notes order by id", &[]).await? {
        notes.push(json!({"id": row.try_get::<_, i64>(0)?, "body": row.try_get::<_, &str>(1)?}));
    }
    Ok(answer(&notes.into()))
}

async fn create(db: TenantDb<Problem>, body: String) -> Result<impl IntoResponse, Problem> {
    let id = db
        .transaction(async |tx| {
            let next = tx.query_one("select max(id) + 1 from notes", &[]).await?.try_get::<_, i64>(0)?;
            tx.execute("insert into notes values ($1, $2)", &[&next, &body]).await?;
            Ok(next)
        })
        .await?;
    Ok((StatusCode::CREATED, id.to_string()))
}

async fn read(db: TenantDb, Path(id): Path<i64>) -> Result<impl IntoResponse, Problem> {
    let note = db.query_opt("select body from notes where id = $1", &[&id]).await?;
    let note = note.ok_or_else(missing)?;
    Ok(answer(&json!({"id": id, "body": note.try_get::<_, &str>(0)?})))
}

async fn change(db: TenantDb, Path(id): Path<i64>, body: String) -> Result<StatusCode, Problem> {
    changed(db.execute("update notes set body = $2 where id = $1", &[&id, &body]).await?)
}

async fn remove(db: TenantDb, Path(id): Path<i64>) -> Result<StatusCode, Problem> {
    changed(db.execute("delete from notes where id = $1", &[&id]).await?)
}

fn changed(rows: u64) -> Result<StatusCode, Problem> {
    if rows == 0 { Err(missing()) } else { Ok(StatusCode::NO_CONTENT) }
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND).detail("there is no such note")
}

async fn caller(Caller(caller): Caller) -> &'static str {
    match caller {
        Identity::Session(_) => "session",
        Identity::ApiKey(_) => "key",
        _ => "other",
    }
}

/// What the extractor has, what the task has, and what the database has.
async fn context(
    State(app): State<App>,
    Context(context): Context,
    Tenant(tenant): Tenant,
) -> Result<impl IntoResponse, Problem> {
    assert_eq!(*context, *TenantContext::current()?);
    assert_eq!((tenant.id, &tenant.slug), (context.organization_id, &context.slug));
    Ok(answer(&told(&app.db).await?))
}

/// The same from a task of its own.
async fn spawned(
    State(app): State<App>,
    Context(context): Context,
    db: TenantDb,
) -> Result<impl IntoResponse, Problem> {
    let without = tokio::spawn(async move {
        assert!(TenantContext::current().is_err());
        db.query_one("select current_schema()", &[]).await
    });
    let with = context.spawn(async move { told(&app.db).await });
    let schema = without.await.unwrap()?.try_get::<_, String>(0)?;
    let mut told = with.await.unwrap()?;
    told["schema"] = schema.into();
    Ok(answer(&told))
}

/// Whether there is a context while the body is made, and what the handle reads then.
async fn streamed(db: TenantDb) -> Body {
    let body = async move {
        let inside = TenantContext::current().is_ok();
        let note = db.query_one("select body from notes", &[]).await?.try_get::<_, String>(0)?;
        Ok::<_, cgk::Error>(format!("{inside} {}: {note}", db.context().slug))
    };
    Body::from_stream(futures_util::stream::once(body))
}

/// The other calls of the handle, each in its tenant.
async fn calls(db: TenantDb) -> Result<String, Problem> {
    const SCHEMA: &str = "select current_schema()::text";
    let read_only = TxOptions::default().read_only();
    let one: String =
        db.transaction_in(&read_only, async |tx| Ok(tx.query_one(SCHEMA, &[]).await?.try_get(0)?)).await?;
    let written = db.transaction_in(&read_only, async |tx| tx.execute("delete from notes", &[]).await).await;
    assert_eq!(written.unwrap_err().sqlstate().map(|state| state.code()), Some("25006"));
    let two = db.query_as::<(String,), _>(SCHEMA, &[]).await?.remove(0).0;
    let three: String = db.tenant().query_one(SCHEMA, &[]).await?.try_get(0)?;
    assert_eq!(*db.tenant().context(), *db.clone().context());
    let schemas: [String; 3] = [one, two, three];
    Ok(schemas.join(" "))
}

async fn told(db: &Db) -> cgk::Result<Value> {
    let context = TenantContext::current()?;
    let query = "select body, nullif(current_setting('app.current_user_id', true), '') from notes order by id limit 1";
    let row = db.current()?.query_one(query, &[]).await?;
    Ok(json!({
        "slug": context.slug, "user": context.user_id, "email": context.email, "roles": context.roles,
        "request": context.request_id, "note": row.try_get::<_, &str>(0)?, "database_user": row.try_get::<_, Option<&str>>(1)?,
    }))
}

async fn show_invoice(State(app): State<App>, Context(context): Context) -> Result<&'static str, Problem> {
    context.own(Some(app.invoice))?;
    Ok("an invoice")
}

async fn cancel_invoice(State(app): State<App>, Context(context): Context) -> Result<&'static str, Problem> {
    context.check_access(&app.invoice)?;
    Ok("cancelled")
}
