//! Text of a stranger's that a service writes into a statement: what each of these injections comes to, on a server as it is and on
//! one where the rights that they live on are revoked, with a role per tenant and with the search path alone (threats T41, T42).
//!
//! cgk cannot keep a service from building statements of strangers' text. What it promises is that nothing of it is committed
//! once the session has left its tenant, and that the next user of the connection finds nothing of it.

use crate::{
    stage::{Stage, report, slug},
    support::score,
};
use cgk::{Db, Error, TenantTx, TransactionError, config::Isolation, login::SharedTables};

/// What an injection comes to. The later, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// The statement it stands in is refused.
    Denied,
    /// It runs; the next statement reads the tenant's own row, and it shows nothing of another tenant's.
    Harmless,
    /// The next statement finds no table or another one, not of a tenant's. Nothing is committed.
    Astray,
    /// It, or the next statement, reads another tenant's row. Where it changed the session for that, nothing is committed.
    Reached,
}
use Verdict::{Astray, Denied, Harmless, Reached};

/// The verdicts: with a role per tenant on a stock server and on a hardened one, with the search path alone on both.
pub(crate) type Verdicts = [Verdict; 4];

const READ: &str = "select tag from marks where tag = '{}'";
const COUNT: &str = "select count(*)::text from marks where n = 0 and tag = '{}'";
const WRITE: &str = "insert into marks (tag, n) values ('{}', 5)";
const CHANGE: &str = "update marks set n = n where tag = '{}'";

#[rustfmt::skip]
pub(crate) const INJECTIONS: &[(&str, &str, Verdicts)] = &[
    // More rows.
    (READ, "x' or true --", [Harmless; 4]),
    (READ, "x' union all select tag from tenant_globex.marks --", [Denied, Denied, Reached, Reached]),
    (COUNT, "x' or exists (select from tenant_globex.marks) --", [Denied, Denied, Harmless, Harmless]),
    (READ, "x' union all select email from users --", [Harmless; 4]),
    (WRITE, "x', 5), ((select max(tag) from tenant_globex.marks where n = 7), 5) returning tag --", [Denied, Denied, Reached, Reached]),
    (CHANGE, "x' or exists (select from tenant_globex.marks where tag like 'secret%') returning 'secret-of-globex' --", [Denied, Denied, Reached, Reached]),
    (READ, "x' union all select query_to_xml('select tag from tenant_globex.marks', true, false, '')::text --", [Denied, Denied, Reached, Reached]),
    // Another statement.
    (READ, "x'; select tag from tenant_globex.marks --", [Denied; 4]),
    (READ, "x'; commit; select 'y", [Denied; 4]),
    (WRITE, "x', 5); reset role --", [Denied; 4]),
    // Another path.
    (READ, "x' or set_config('search_path', 'tenant_globex', true) <> '' --", [Astray, Denied, Reached, Reached]),
    (READ, "x' or set_config('search_path', 'tenant_globex', false) <> '' --", [Astray, Denied, Reached, Reached]),
    (READ, "x' or set_config('search_path', 'public', true) <> '' --", [Astray, Denied, Astray, Astray]),
    (READ, "x' or (select count(*) from pg_settings where set_config('search_path', 'tenant_globex', true) <> '' and name = 'work_mem') = 1 --", [Astray, Denied, Reached, Reached]),
    // Another role, alone and with its path.
    (READ, "x' or set_config('role', '{globex}', true) <> '' --", [Astray, Denied, Denied, Denied]),
    (READ, "x' or set_config('role', 'none', true) <> '' --", [Astray, Denied, Harmless, Harmless]),
    (READ, "x' or set_config('role', '{globex}', true) || set_config('search_path', 'tenant_globex', true) <> '' --", [Reached, Denied, Denied, Denied]),
    (WRITE, "x' || set_config('role', '{globex}', false) || set_config('search_path', 'tenant_globex', false), 5) --", [Reached, Denied, Denied, Denied]),
    (CHANGE, "x' or set_config('role', '{globex}', true) || set_config('search_path', 'tenant_globex', true) <> '' --", [Reached, Denied, Denied, Denied]),
    (READ, "x' or set_config('session_authorization', '{globex}', true) <> '' --", [Denied; 4]),
    // The same by functions that run a text as a statement.
    (READ, "x' or query_to_xml('select set_config(''role'', ''{globex}'', true), set_config(''search_path'', ''tenant_globex'', true)', true, false, '') is not null --", [Reached, Denied, Denied, Denied]),
    (READ, "x' or exists (select from ts_stat('select to_tsvector(set_config(''role'', ''{globex}'', true) || set_config(''search_path'', ''tenant_globex'', true))')) --", [Reached, Denied, Denied, Denied]),
    (READ, "x' or cursor_to_xml('marks', 1, true, false, '') is not null --", [Denied; 4]),
    // Settings that guard something.
    (READ, "x' or set_config('cgk.tx', 'x', true) <> '' --", [Harmless, Denied, Harmless, Harmless]),
    (READ, "x' or set_config('row_security', 'off', true) <> '' --", [Harmless, Denied, Harmless, Harmless]),
    (READ, "x' or set_config('app.current_organization_id', gen_random_uuid()::text, true) <> '' --", [Harmless, Denied, Harmless, Harmless]),
    (READ, "x' or set_config('default_transaction_read_only', 'on', false) <> '' --", [Harmless, Denied, Harmless, Harmless]),
    (READ, "x' or set_config('statement_timeout', '0', false) <> '' --", [Harmless, Denied, Harmless, Harmless]),
    // What outlives a statement.
    (READ, "x' or pg_advisory_lock(4711) is not null --", [Harmless; 4]),
    (READ, "x' or pg_notify('gossip', 'x') is not null --", [Harmless; 4]),
    (READ, "x' or lo_create(0) > 0 --", [Harmless; 4]),
    // The server and the others on it.
    (READ, "x' or pg_read_file('/etc/passwd') <> '' --", [Denied; 4]),
    (READ, "x' or pg_ls_dir('.') <> '' --", [Denied; 4]),
    (READ, "x' or (select bool_or(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'postgres') --", [Denied; 4]),
    (READ, "x' union all select query from pg_stat_activity where pid <> pg_backend_pid() --", [Harmless; 4]),
    (READ, "x' union all select rolpassword from pg_authid --", [Denied; 4]),
];

/// The only row of data that the other tenant has in the attacked table besides its first.
const SECRET: &str = "secret-of-globex";

/// What `setup::harden` revokes.
const HARDENING: &str = "
    revoke execute on function pg_catalog.set_config(text, text, boolean) from public;
    revoke usage on language plpgsql, sql from public;";

/// What one injection did.
struct Met {
    verdict: Verdict,
    committed: bool,
}

/// Runs a statement with the text in it, then an honest one, and commits if it is let.
async fn inject(db: &Db, statement: &str, text: &str) -> Met {
    let sql = statement.replacen("{}", text, 1);
    let mut met = Denied;
    let outcome = db
        .with_tenant(&slug("acme"), async |tx| {
            let rows = tx.query_typed(&sql, &[]).await?;
            let shown = rows.iter().any(|row| row.try_get::<_, String>(0).is_ok_and(|text| text.contains(SECRET)));
            met = if shown { Reached } else { honest(tx).await };
            Ok(())
        })
        .await;
    Met { verdict: met, committed: outcome.is_ok() }
}

/// What the next statement reads.
async fn honest(tx: &mut TenantTx<'_>) -> Verdict {
    match tx.query_typed("select tag from marks where n = 0", &[]).await {
        Ok(rows) => match rows.first().map(|row| row.get(0)) {
            Some("acme") => Harmless,
            Some("globex") => Reached,
            _ => Astray,
        },
        Err(Error::Transaction(TransactionError::Statement { .. })) => Astray,
        Err(other) => panic!("{other:?}"),
    }
}

/// What an attack on the other tenant could have changed.
pub(crate) async fn picture(stage: &Stage) -> String {
    let sql = "select concat_ws(' ', (select string_agg(t::text, ',' order by t::text) from tenant_globex.marks t),
                                (select string_agg(id || slug || status, ',' order by slug) from organizations))";
    stage.watch.query_one(sql, &[]).await.unwrap().get(0)
}

pub(crate) async fn stage(hardened: bool) -> Stage {
    let stage = Stage::set().await;
    stage.sql(&format!("insert into tenant_globex.marks (n, tag) values (7, '{SECRET}')")).await;
    if hardened {
        stage.sql(HARDENING).await;
        stage.sql(&format!("revoke temporary on database \"{}\" from public", stage.database.name())).await;
    }
    stage
}

#[tokio::test]
async fn every_injection_has_its_verdict() {
    let (mut wrong, mut counts, mut bad) = (Vec::new(), [[0; 4]; 4], 0);
    for (column, (isolation, hardened)) in
        [(Isolation::Role, false), (Isolation::Role, true), (Isolation::Path, false), (Isolation::Path, true)]
            .into_iter()
            .enumerate()
    {
        let stage = stage(hardened).await;
        let db = stage.app(isolation, SharedTables::Registry).await;
        if hardened {
            let login = stage.app_name();
            stage
                .sql(&format!(
                    "grant execute on function pg_catalog.set_config(text, text, boolean) to {}",
                    login.as_str()
                ))
                .await;
        }
        let before = picture(&stage).await;
        for (statement, text, verdicts) in INJECTIONS {
            let text = text.replace("{globex}", &stage.role("globex"));
            let what = format!("{isolation:?}, hardened {hardened}: {}", statement.replacen("{}", &text, 1));
            let met = inject(&db, statement, &text).await;
            if met.verdict != verdicts[column] {
                wrong.push(format!("{what}: expected {:?}, met {:?}", verdicts[column], met.verdict));
            }
            counts[column][met.verdict as usize] += 1;
            assert!(met.verdict != Astray || !met.committed, "{what}: committed");
            if picture(&stage).await != before {
                bad += 1;
                wrong.push(format!("{what}: changed something of the other tenant's"));
            }
            // The next tenant on the connection meets nothing of it.
            let own = db.tenant(&slug("globex")).query_typed("select tag from marks where n = 0", &[]).await;
            let own: String = own.unwrap_or_else(|error| panic!("after {what}: {error:?}"))[0].get(0);
            assert_eq!(own, "globex", "after {what}");
            stage.sql("delete from tenant_acme.marks where n <> 0").await;
        }
    }
    let names = ["role, stock", "role, hardened", "path, stock", "path, hardened"];
    let told: Vec<String> = names
        .iter()
        .zip(&counts)
        .map(|(name, counts)| {
            let [denied, harmless, astray, reached] = counts;
            format!(
                "{name}: {denied} denied, {harmless} harmless, {astray} astray, {reached} read the other tenant's row"
            )
        })
        .collect();
    let told = told.join("; ");
    report(&told);
    assert!(wrong.is_empty(), "{wrong:#?}");
    // As good as the promise: a row of another tenant's is within reach of role mode on a stock server by set_config alone.
    assert_eq!(counts[1][Reached as usize] + counts[1][Astray as usize], 0);
    score::note(
        7,
        "injections into a statement, the other tenant changed or the next user unclean",
        INJECTIONS.len() * 4,
        bad,
        &told,
    );
    let [.., reached] = counts[2];
    score::control(
        7,
        "with the search path alone the other tenant's row is read",
        INJECTIONS.len(),
        reached,
        "path mode, stock server",
    );
}
