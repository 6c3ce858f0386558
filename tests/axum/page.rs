//! The code of docs/service.md, "In axum": compiled, and asked.

// ---
use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use cgk::{
    auth::{Auth, AuthSettings},
    axum::{Owner, Problem, Require, TenantDb, TenantLayer},
    request::{InvalidRule, TenantRules},
    resolver::{Resolver, ResolverSettings},
};

async fn count(db: TenantDb) -> Result<String, Problem> {
    let row = db.query_one("select count(*) from orders", &[]).await?;
    Ok(row.try_get::<_, i64>(0)?.to_string())
}

/// For a user with the role `owner`. Everything in the closure is committed together, or nothing.
async fn cancel(_: Require<Owner>, db: TenantDb<Problem>) -> Result<String, Problem> {
    db.transaction(async |tx| {
        let cancel = "update orders set status = 'canceled', canceled_at = now() where status = 'open'";
        match tx.execute(cancel, &[]).await? {
            0 => Err(Problem::new(StatusCode::CONFLICT).detail("no order is open")),
            orders => Ok(orders.to_string()),
        }
    })
    .await
}

fn app(db: &cgk::Db) -> Result<Router, InvalidRule> {
    let resolver = Resolver::new(&Auth::new(db, AuthSettings::default()), ResolverSettings::default());
    let rules =
        TenantRules::new().bearer_token().subdomain_of("example.com")?.host_without_tenant("api.example.com")?;
    Ok(Router::new()
        .route("/orders/count", get(count))
        .route("/orders/cancel", post(cancel))
        .layer(TenantLayer::new(rules, &resolver, db))
        // Added behind the layer: no tenant is looked for.
        .route("/health", get(async || "well")))
}
// ---

use crate::stage::{Stage, ask, bearer, problem};

#[expect(clippy::print_stdout, reason = "the page's program says where it listens")]
mod program {
    use super::app;

    // ---
    /// The service: the URL of its login is in `DATABASE_URL`, in the environment or in `.env`.
    #[tokio::main]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        let db: cgk::Db = cgk::Db::connect(&cgk::Config::load()?).await?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
        println!("listening on http://{}", listener.local_addr()?);
        axum::serve(listener, app(&db)?).await?;
        Ok(())
    }
    // ---

    /// That it compiles; it would listen until it is stopped.
    pub(super) const MAIN: fn() -> Result<(), Box<dyn std::error::Error>> = main;
}

#[tokio::test]
async fn the_service_of_the_page_does_what_the_page_says() {
    let stage = Stage::set().await;
    stage
        .run("insert into tenant_acme.orders (order_number, currency, total_minor) values ('1', 'EUR', 1), ('2', 'EUR', 1)")
        .await;
    let app = app(&stage.db).unwrap();
    let asked = async |method: &str, path: &str, token: &str| ask(&app, bearer(path, token).method(method), "").await;
    let (acme, globex) = (&stage.of["acme"], &stage.of["globex"]);
    assert_eq!(asked("GET", "/orders/count", &acme.key).await.text, "2");
    assert_eq!(asked("GET", "/orders/count", &globex.session).await.text, "0");
    assert_eq!(problem(&asked("POST", "/orders/cancel", &acme.member).await, 403), "access is denied");
    assert_eq!(problem(&asked("POST", "/orders/cancel", &globex.session).await, 409), "no order is open");
    assert_eq!(asked("POST", "/orders/cancel", &acme.session).await.text, "2");
    assert_eq!(stage.number("select count(*) from tenant_acme.orders where status = 'canceled'").await, 2);
    assert_eq!(asked("GET", "/health", "").await.text, "well");
}

#[test]
fn the_page_has_this_code() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (code, page) = (read("tests/axum/page.rs"), read("docs/service.md"));
    let code = code.split("// ---\n").nth(1).unwrap();
    let (_, page) = page.split_once("<!-- axum -->\n```rust,ignore\n").unwrap();
    let (page, _) = page.split_once("```\n").unwrap();
    assert_eq!(page, code);
    let _ = program::MAIN;
    let (code, page) = (read("tests/axum/page.rs"), read("docs/service.md"));
    let code = code.split("    // ---\n").nth(1).unwrap().replace("\n    ", "\n");
    let (_, page) = page.split_once("<!-- axum main -->\n```rust,ignore\n").unwrap();
    let (page, _) = page.split_once("```\n").unwrap();
    assert_eq!(page, code.trim_start());
}
