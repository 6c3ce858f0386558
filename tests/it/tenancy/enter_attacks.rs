//! Neither attacks nor injections get further through `public.cgk_enter` than through `with_tenant`.

use super::{
    attacks::{self, ATTACKS, SECRET},
    enter::{code, one, refused, service},
    injection::{self, INJECTIONS},
};
use crate::{
    stage::{Stage, report, run},
    support::score,
};
use cgk::config::Isolation;
use tokio_postgres::Client;

/// Whatever the session's search path finds first, the functions use what they name.
#[tokio::test]
async fn no_name_of_the_callers_is_found_by_the_functions() {
    let stage = Stage::set().await;
    let client = service(&stage, Isolation::Role).await;
    stage.sql(&format!("create schema evil authorization {}", stage.app_name().as_str())).await;
    run(
        &client,
        "create domain evil.text as pg_catalog.text check (value = 'evil');
         create domain evil.bool as pg_catalog.bool check (false); create domain evil.oid as pg_catalog.oid check (false);
         create domain evil.int8 as pg_catalog.int8 check (false); create domain evil.name as pg_catalog.name check (false);
         create function evil.lies(pg_catalog.text, pg_catalog.text) returns pg_catalog.bool language sql as 'select true';
         create operator evil.= (leftarg = pg_catalog.text, rightarg = pg_catalog.text, function = evil.lies);
         create operator evil.<> (leftarg = pg_catalog.text, rightarg = pg_catalog.text, function = evil.lies);
         create operator evil.!~ (leftarg = pg_catalog.text, rightarg = pg_catalog.text, function = evil.lies);
         create function evil.concat(variadic pg_catalog.text[]) returns pg_catalog.text language sql as $$select 'evil'$$;
         create function evil.current_setting(pg_catalog.text, pg_catalog.bool) returns pg_catalog.text language sql as $$select 'acme evil'$$;
         create function evil.cgk_database_tag() returns pg_catalog.text language sql as $$select 'evil'$$;
         create function evil.cgk_left(pg_catalog.text) returns pg_catalog.text language sql as $$select 'fine'$$;
         create table evil.organizations (id pg_catalog.uuid, slug pg_catalog.text, status pg_catalog.text);
         insert into evil.organizations values ('00000000-0000-0000-0000-000000000000', 'nope', 'active');
         set search_path = evil, pg_catalog",
    )
    .await
    .unwrap();
    // The control: names without a schema are redirected.
    assert_eq!(
        one(&client, "select 'a'::pg_catalog.text = 'b', concat('a'), (select slug from organizations)").await,
        "t evil nope"
    );
    assert_eq!(refused(&client, "begin", "select public.cgk_enter('nope')").await, "TN401");
    assert_eq!(refused(&client, "begin", "select public.cgk_check('acme')").await, "TN501");
    for tenant in ["acme", "globex"] {
        run(&client, "begin").await.unwrap();
        one(&client, &format!("select public.cgk_enter('{tenant}')")).await;
        assert_eq!(
            one(&client, "select current_user, (select tag from marks where n = 0)").await,
            format!("{} {tenant}", stage.role(tenant))
        );
        assert_eq!(one(&client, &format!("select public.cgk_check('{tenant}')")).await, tenant);
        run(&client, "commit").await.unwrap();
    }
}

/// One attack: enters, runs it, checks, commits. The rows it showed, or the code of what refused it.
async fn attack(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    run(client, "begin").await.unwrap();
    let outcome = async {
        client.query_typed("select public.cgk_enter('acme')", &[]).await?;
        let rows = client.query_typed(sql, &[]).await?;
        client.query_typed("select public.cgk_check('acme')", &[]).await?;
        Ok::<_, tokio_postgres::Error>(rows)
    };
    let outcome = outcome.await;
    let ended = run(client, if outcome.is_ok() { "commit" } else { "rollback" }).await;
    // What a pool's reset hook does; without it, settings and locks of the session would stay.
    run(client, "rollback").await.unwrap();
    run(client, "discard all").await.unwrap();
    let rows = outcome.map_err(|error| code(&error))?;
    ended.map_err(|error| code(&error))?;
    let texts = rows.iter().flat_map(|row| (0..row.len()).filter_map(|column| row.try_get::<_, String>(column).ok()));
    Ok(texts.collect())
}

#[tokio::test]
async fn the_attacks_get_no_further_than_through_the_library() {
    let stage = Stage::set().await;
    stage
        .sql(&format!(
            "insert into tenant_globex.marks values (7, '{SECRET}'); create sequence tenant_globex.marks_seq;
             grant select, insert, update, delete on tenant_acme.marks to {0}; analyze tenant_globex.marks",
            stage.role("acme")
        ))
        .await;
    attacks::people(&stage).await;
    let client = service(&stage, Isolation::Role).await;
    let before = attacks::picture(&stage).await;
    let (mut denied, mut wrong) = (0, Vec::new());
    for (verdict, sql) in ATTACKS {
        let outcome = attack(&client, sql).await;
        // What the library refuses before it is sent, or finds by its mark of the transaction, changes nothing here.
        let spared = sql.contains("cgk.tx");
        if (*verdict == attacks::Verdict::Denied) != outcome.is_err() && !spared {
            wrong.push(format!("{sql}: expected {verdict:?}, {outcome:?}"));
        }
        denied += usize::from(outcome.is_err());
        assert!(outcome.iter().flatten().all(|text| !text.contains(SECRET)), "{sql} shows another tenant's row");
        assert_eq!(attacks::picture(&stage).await, before, "{sql} changed something of another's");
        assert_eq!(attack_free(&client, "globex").await, 2, "after {sql}");
    }
    report(&format!("attacks through cgk_enter: {} tried, {denied} denied", ATTACKS.len()));
    assert!(wrong.is_empty(), "{wrong:#?}");
    let summary = format!("{denied} denied");
    score::note(
        13,
        "attack statements through cgk_enter, another tenant's row shown or changed",
        ATTACKS.len(),
        0,
        &summary,
    );
    // The control: without the role, the same attack shows the row.
    let client = service(&stage, Isolation::Path).await;
    let shown = attack(&client, "select tag from tenant_globex.marks").await.unwrap();
    assert!(shown.contains(&SECRET.to_owned()));
    score::control(13, "the same attack without a role", 1, 1, "another tenant's row");
}

async fn attack_free(client: &Client, tenant: &str) -> i64 {
    run(client, "begin").await.unwrap();
    client.query_typed(&format!("select public.cgk_enter('{tenant}')"), &[]).await.unwrap();
    let rows = client.query_typed("select count(*) from marks", &[]).await.unwrap();
    client.query_typed(&format!("select public.cgk_check('{tenant}')"), &[]).await.unwrap();
    run(client, "commit").await.unwrap();
    rows[0].get(0)
}

#[tokio::test]
async fn the_injections_come_to_the_same_as_through_the_library() {
    let mut wrong = Vec::new();
    let modes = [(Isolation::Role, false), (Isolation::Role, true), (Isolation::Path, false), (Isolation::Path, true)];
    let tried = modes.len() * INJECTIONS.len();
    for (column, (isolation, hardened)) in modes.into_iter().enumerate() {
        let stage = injection::stage(hardened).await;
        let client = service(&stage, isolation).await;
        if hardened {
            let login = stage.app_name();
            let grant = "grant execute on function pg_catalog.set_config(text, text, boolean) to";
            stage.sql(&format!("{grant} {}", login.as_str())).await;
        }
        let before = injection::picture(&stage).await;
        for (statement, text, verdicts) in INJECTIONS {
            let sql = statement.replacen("{}", &text.replace("{globex}", &stage.role("globex")), 1);
            let (verdict, committed) = inject(&client, &sql).await;
            let what = format!("{isolation:?}, hardened {hardened}: {sql}");
            if verdict != verdicts[column] {
                wrong.push(format!("{what}: expected {:?}, met {verdict:?}", verdicts[column]));
            }
            if verdict == injection::Verdict::Astray && committed {
                wrong.push(format!("{what}: committed"));
            }
            if injection::picture(&stage).await != before {
                wrong.push(format!("{what}: changed something of the other tenant's"));
            }
            run(&client, "discard all").await.unwrap();
            stage.sql("delete from tenant_acme.marks where n <> 0").await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    score::note(
        13,
        "injected texts through cgk_enter, another verdict than through the library",
        tried,
        0,
        "both modes, stock and hardened",
    );
}

/// Runs a statement with injected text, then an honest one; what the two show, and whether it was committed.
async fn inject(client: &Client, sql: &str) -> (injection::Verdict, bool) {
    use injection::Verdict::{Astray, Denied, Harmless, Reached};
    run(client, "begin").await.unwrap();
    client.query_typed("select public.cgk_enter('acme')", &[]).await.unwrap();
    let verdict = match client.query_typed(sql, &[]).await {
        Err(_) => Denied,
        Ok(rows) if rows.iter().any(|row| row.try_get::<_, String>(0).is_ok_and(|text| text.contains(SECRET))) => {
            Reached
        }
        Ok(_) => match client.query_typed("select tag from marks where n = 0", &[]).await {
            Ok(rows) => match rows.first().map(|row| row.get(0)) {
                Some("acme") => Harmless,
                Some("globex") => Reached,
                _ => Astray,
            },
            Err(_) => Astray,
        },
    };
    let checked = client.query_typed("select public.cgk_check('acme')", &[]).await;
    run(client, if checked.is_ok() { "commit" } else { "rollback" }).await.unwrap();
    (verdict, checked.is_ok())
}
