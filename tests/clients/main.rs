//! Clients in other languages, as examples/clients has them, against their specification: on a direct connection and behind
//! PgBouncer in transaction mode. scripts/client-tests.sh installs what they need and starts this.

mod bouncer;
mod cost;
mod programs;
mod stage;

use futures_util::{StreamExt as _, stream};
use programs::{Program, installed};
use stage::{Route, Stage};
use std::time::Instant;

/// Every client meets the specification on both routes. As many at once as there are processors: each mostly waits.
#[tokio::test(flavor = "multi_thread")]
async fn every_client_meets_the_specification() {
    let clients = installed();
    assert!(clients.len() >= 12, "only {clients:?} are installed: run scripts/client-tests.sh");
    let runs = clients.iter().flat_map(|client| [(client, Route::Direct), (client, Route::Pooler)]);
    let runs = runs.filter(|(client, route)| client.can(*route)).map(async |(client, route)| {
        let started = Instant::now();
        let stage = Stage::set(route).await;
        let answer = client.run(&stage, 400).await;
        programs::say(&format!("{client:?}, {route:?}: {}, {:?}", answer.summary(), started.elapsed()));
        (!answer.passed()).then(|| format!("{client:?}, {route:?}:\n{}", answer.text))
    });
    let at_once = std::thread::available_parallelism().map_or(2, usize::from);
    let failed: Vec<String> =
        stream::iter(runs).buffer_unordered(at_once).filter_map(async |failed| failed).collect().await;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// 10,000 transactions of two tenants from eight connections, in one client of each language.
#[tokio::test]
async fn ten_thousand_alternating_transactions_never_cross() {
    for client in [Program::python("psycopg"), Program::node("pg")] {
        for route in [Route::Direct, Route::Pooler] {
            let stage = Stage::set(route).await;
            let answer = client.run(&stage, 10_000).await;
            programs::say(&format!("{client:?}, {route:?}: {}", answer.summary()));
            assert!(answer.passed() && answer.text.contains("ok 10000 alternating"), "{}", answer.text);
        }
    }
}

/// What docs/other-languages.md says of statements that break.
#[tokio::test]
async fn what_breaks_breaks_as_documented() {
    let stage = Stage::set(Route::Direct).await;
    let answer = Program::python("shapes").run(&stage, 0).await;
    assert!(answer.passed(), "{}", answer.text);
}

/// The projects of the documentation, started as it says: each answers a request of either tenant with its own rows.
#[tokio::test]
async fn the_projects_of_the_documentation_answer_in_two_tenants() {
    for project in ["django", "prisma"] {
        let stage = Stage::set(Route::Direct).await;
        stage
            .admin(
                "insert into tenant_acme.customers (email) values ('ada@acme.example');
                 insert into tenant_globex.customers (email) values ('gil@globex.example')",
            )
            .await;
        let server = programs::Server::start(project, &stage).await;
        for (tenant, email) in [("acme", "ada@acme.example"), ("globex", "gil@globex.example")] {
            let answer = server.get("/customers", &format!("{tenant}.localhost")).await;
            assert!(answer.contains("200 OK") && answer.contains(email), "{project}: {answer}");
            assert!(!answer.replace(email, "").contains("@"), "{project}: {answer}");
        }
        let answer = server.get("/customers", "nope.localhost").await;
        // The project in Django answers as the table of the page says.
        let status = if project == "django" { " 404 " } else { " 500 " };
        assert!(answer.contains(status) && !answer.contains("@"), "{project}: {answer}");
    }
}

/// The control: where the functions do less, the specification finds out.
#[tokio::test]
async fn control_weaker_functions_fail_the_specification() {
    let enter =
        "create or replace function public.cgk_enter(tenant text, statement_timeout text default '', lock_timeout text
        default '', idle_timeout text default '') returns text language plpgsql as";
    // What cgk_check compares, so that it finds nothing: the weaker functions do all but one thing as cgk_enter does.
    let entered = |role: &str, locally: bool| {
        format!(
            "perform set_config('app.current_organization_id', 'x', {locally}),
                set_config('cgk.tenant', concat_ws(' ', tenant, {role}, 'x', extract(epoch from now())), {locally}),
                set_config('search_path', concat('tenant_', tenant, ', public, pg_temp'), {locally})"
        )
    };
    let role = "concat('cgk_', tenant, '_', public.cgk_database_tag())";
    let set_for_the_session =
        format!("{enter} $$ begin {}, set_config('role', {role}, false); return tenant; end $$", entered(role, false));
    let never_checks =
        "create or replace function public.cgk_check(tenant text) returns text language sql return tenant";
    let path_alone = format!(
        "{enter} $$ begin {}; return tenant; end $$;
        grant usage on schema tenant_acme, tenant_globex to public;
        grant all on tenant_acme.marks, tenant_globex.marks to public",
        entered("current_user", true)
    );
    for (weaker, check) in [
        (set_for_the_session.as_str(), "the session is clean after a commit"),
        (never_checks, "a transaction that left its tenant is not committed"),
        (path_alone.as_str(), "the other tenant's table by its full name"),
    ] {
        for client in [Program::python("psycopg"), Program::node("pg")] {
            let stage = Stage::set(Route::Direct).await;
            stage.admin(weaker).await;
            let answer = client.run(&stage, 8).await;
            assert!(
                !answer.passed() && answer.text.contains(&format!("FAILED {check}")),
                "{client:?}, {check}:\n{}",
                answer.text
            );
        }
    }
}
