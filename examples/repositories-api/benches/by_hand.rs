//! What the guards cost: the service beside the same two handlers written by hand.
//!
//! By hand is BEGIN, set_config of the search path, the statement, COMMIT on a pooled connection, and the tenant by a map in memory:
//! no role, no check of the registry, no lock, no reset. Both answer the same JSON behind the same layers, on the same server and the
//! same 200 tenants. wrk asks each in turn, several rounds; the ratio of the medians is printed.
//!
//! ```sh
//! cargo bench --bench by_hand -- [--rounds 5] [--seconds 5]
//! ```

use anyhow::{Context as _, ensure};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::IntoResponse,
    routing::get,
};
use cgk::{
    Config, Db, FromRow as _, Operator, OrganizationId, Tenant, TenantSlug,
    auth::NewApiKey,
    axum::RequestIdLayer,
    lifecycle::{self, CreateManyOptions},
    migrate::Silent,
    testing::LocalServer,
};
use deadpool_postgres::{Manager, Pool};
use repositories_api::{
    app::App,
    demo,
    http::{page::Page, problems},
    repositories::Repository,
    routes,
    settings::Settings,
};
use std::{collections::HashMap, path::PathBuf, process::Command, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_postgres::{
    NoTls,
    types::{ToSql, Type},
};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
};
use uuid::Uuid;

const TENANTS: usize = 200;
const REPOSITORIES: usize = 20;

struct Known {
    slug: TenantSlug,
    organization: OrganizationId,
    key: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (rounds, seconds) = (argument("--rounds")?.unwrap_or(5), argument("--seconds")?.unwrap_or(5));
    let server = tokio::task::spawn_blocking(|| LocalServer::start_default(&|_| {})).await??;
    let operator = Config::from_url(&server.url("postgres"))?;
    let service = Config::from_url(&demo::prepare(&operator, "repositories_api").await?)?;
    let app = App::new(Db::connect(&service).await?);
    let known = tenants(&operator, &app).await?;
    let settings = Settings::default();
    let with_cgk = listen(routes::router(&app, &settings)?).await?;
    let by_hand = listen(by_hand(&operator, &known, &settings)?).await?;
    for (what, write) in [("GET a page of 20", false), ("POST one", true)] {
        let script = script(&known, write)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(wrk(with_cgk, &script, seconds)?);
            theirs.push(wrk(by_hand, &script, seconds)?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!("{what}: {ours:.0} requests a second with cgk, {theirs:.0} by hand: {:.2}", ours / theirs);
    }
    Ok(())
}

fn argument(name: &str) -> anyhow::Result<Option<u32>> {
    let words: Vec<String> = std::env::args().collect();
    let value = words.iter().position(|word| word == name).and_then(|place| words.get(place + 1));
    Ok(value.map(|text| text.parse()).transpose()?)
}

async fn tenants(operator: &Config, app: &App) -> anyhow::Result<Vec<Known>> {
    let connected = Operator::connect(operator).await?;
    let slugs = (0..TENANTS).map(|number| format!("load{number}").parse()).collect::<Result<Vec<TenantSlug>, _>>()?;
    let new: Vec<_> = slugs.iter().cloned().map(Into::into).collect();
    lifecycle::create_many(&connected, &app.db, &demo::migrations()?, &new, &CreateManyOptions::default(), &mut Silent)
        .await?;
    let mut known = Vec::new();
    for slug in slugs {
        let tenant: Tenant = app.db.platform().find_tenant(&slug).await?;
        let key = NewApiKey::named("bench").scope("read").scope("write");
        let (_, key) = app.auth.api_keys().create(tenant.id, &key).await?;
        let fill = "insert into repositories (id, name) select gen_random_uuid(), 'r' || g from generate_series(1, $1::int8) g";
        app.db.tenant(&slug).execute(fill, &[&(REPOSITORIES as i64)]).await?;
        known.push(Known { slug, organization: tenant.id, key: key.reveal().to_owned() });
    }
    Ok(known)
}

async fn listen(router: Router) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(port)
}

/// What the handlers by hand share.
#[derive(Clone)]
struct ByHand {
    pool: Pool,
    by_key: Arc<HashMap<String, (OrganizationId, String)>>,
}

fn by_hand(operator: &Config, known: &[Known], settings: &Settings) -> anyhow::Result<Router> {
    let manager = Manager::new(operator.driver().clone(), NoTls);
    let pool = Pool::builder(manager).max_size(operator.pool().size_max).build()?;
    let by_key = known.iter().map(|known| {
        let schema = format!("tenant_{}, public", known.slug);
        (format!("Bearer {}", known.key), (known.organization, schema))
    });
    let state = ByHand { pool, by_key: Arc::new(by_key.collect()) };
    Ok(Router::new()
        .route("/organizations/{organization_id}/repositories", get(list).post(create))
        .with_state(state)
        .layer(RequestBodyLimitLayer::new(settings.body_bytes_max))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, settings.request_time_max))
        .layer(CatchPanicLayer::custom(problems::panicked))
        .layer(middleware::from_fn(problems::uniform))
        .layer(CompressionLayer::new())
        .layer(RequestIdLayer::new()))
}

type Failure = (StatusCode, String);

fn failed(error: impl std::fmt::Display) -> Failure {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

impl ByHand {
    fn who(&self, organization: Uuid, headers: &HeaderMap) -> Result<(OrganizationId, &str), Failure> {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match self.by_key.get(token) {
            Some((id, path)) if id.0 == organization => Ok((*id, path)),
            Some(_) => Err((StatusCode::NOT_FOUND, String::new())),
            None => Err((StatusCode::UNAUTHORIZED, String::new())),
        }
    }

    async fn run(
        &self,
        id: OrganizationId,
        path: &str,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Repository>, Failure> {
        let mut client = self.pool.get().await.map_err(failed)?;
        let transaction = client.transaction().await.map_err(failed)?;
        let enter = "select set_config('search_path', $1, true), set_config('app.current_organization_id', $2, true)";
        let enter = transaction.prepare_cached(enter).await.map_err(failed)?;
        transaction.query_one(&enter, &[&path, &id.to_string()]).await.map_err(failed)?;
        // Unnamed and in one round trip: a plan that is kept would be that of the tenant before.
        let rows = transaction.query_typed(sql, params).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        rows.iter().map(Repository::from_row).collect::<Result<_, _>>().map_err(failed)
    }
}

const COLUMNS: &str = "id, organization_id, name, description, default_branch, version, created_at, updated_at";

async fn list(
    State(hand): State<ByHand>,
    Path(organization): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Json<Page<Repository>>, Failure> {
    let (id, path) = hand.who(organization, &headers)?;
    let sql = format!("select {COLUMNS} from repositories where organization_id = $1 order by id desc limit 21");
    let mut items = hand.run(id, path, &sql, &[(&id.0, Type::UUID)]).await?;
    items.truncate(20);
    Ok(Json(Page { items, next: None }))
}

#[derive(serde::Deserialize)]
struct New {
    name: String,
}

async fn create(
    State(hand): State<ByHand>,
    Path(organization): Path<Uuid>,
    headers: HeaderMap,
    Json(new): Json<New>,
) -> Result<impl IntoResponse, Failure> {
    let (id, path) = hand.who(organization, &headers)?;
    let sql = format!("insert into repositories (id, name) values ($1, $2) returning {COLUMNS}");
    let made = hand.run(id, path, &sql, &[(&Uuid::now_v7(), Type::UUID), (&new.name, Type::TEXT)]).await?;
    Ok((StatusCode::CREATED, Json(made.into_iter().next())))
}

/// What wrk sends: as each tenant in turn.
fn script(known: &[Known], write: bool) -> anyhow::Result<PathBuf> {
    let mut text = String::from("local who = {\n");
    for known in known {
        text.push_str(&format!("  {{ '{}', '{}' }},\n", known.organization, known.key));
    }
    text.push_str("}\nlocal turn, thread_id = 0, 0\nlocal threads = 0\nfunction setup(thread) threads = threads + 1; thread:set('id', threads) end\n");
    text.push_str("function init() math.randomseed(id * 7919 + os.time()); base = tostring(math.random(1, 2^30)) .. '-' .. id end\n");
    text.push_str("function request()\n  turn = turn + 1\n  local one = who[turn % #who + 1]\n  local path = '/organizations/' .. one[1] .. '/repositories'\n");
    text.push_str("  local headers = { authorization = 'Bearer ' .. one[2], ['content-type'] = 'application/json' }\n");
    match write {
        true => text.push_str(
            "  return wrk.format('POST', path, headers, '{\"name\":\"n' .. base .. '-' .. turn .. '\"}')\nend\n",
        ),
        false => text.push_str("  return wrk.format('GET', path, headers)\nend\n"),
    }
    let file = std::env::temp_dir().join(format!("by-hand-{}-{write}.lua", std::process::id()));
    std::fs::write(&file, text)?;
    Ok(file)
}

fn wrk(port: u16, script: &PathBuf, seconds: u32) -> anyhow::Result<f64> {
    let duration = Duration::from_secs(seconds.into());
    let output = Command::new("wrk")
        .args(["-t2", "-c16", &format!("-d{}s", duration.as_secs()), "-s"])
        .arg(script)
        .arg(format!("http://127.0.0.1:{port}"))
        .output()
        .context("wrk is needed: apt-get install wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && !text.contains("Non-2xx"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let line =
        text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")).context("wrk printed no rate")?;
    Ok(line.trim().parse()?)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
