//! The SQL with which cgk makes a tenant, without what only cgk writes.

use super::sandbox::{Proxy, Raw};
use cgk::{Db, Operator, lifecycle, migrate::Migrations, testing::TestDatabase};

/// The message with which cgk makes a tenant, to be said again for others.
pub(super) struct Recipe {
    message: String,
    id: String,
}

const RECORDED: &str = "recorded_tenant";

impl Recipe {
    pub(super) async fn record(database: &TestDatabase, raw: &Raw) -> Self {
        let proxy = Proxy::to(database).await;
        let (operator, db) = (
            Operator::connect(proxy.config()).await.expect("connect"),
            Db::connect(proxy.config()).await.expect("connect"),
        );
        let db: Db = db;
        let _ = proxy.take();
        let slug = RECORDED.parse().expect("a slug");
        lifecycle::create(&operator, &db, &Migrations::bundled(), &slug, &Default::default()).await.expect("a tenant");
        let seen = proxy.take();
        let message = seen.iter().find(|message| message.kind == b'Q' && message.text.contains("create schema"));
        let message = message.expect("a message that makes the schema").text.trim_end_matches('\0').to_owned();
        let id: uuid::Uuid = raw.one(&format!("select id from public.organizations where slug = '{RECORDED}'")).await;
        let remove =
            "drop schema tenant_{RECORDED} cascade; delete from public.organizations where slug = '{RECORDED}'";
        raw.run(&remove.replace("{RECORDED}", RECORDED)).await;
        // Without what only cgk writes: marks, locks, checks, the ledger and its comment.
        Self { message: without_bookkeeping(&message), id: id.to_string() }
    }

    pub(super) fn message_for(&self, slug: &str) -> String {
        self.message.replace(RECORDED, slug).replace(&self.id, &uuid::Uuid::new_v4().to_string())
    }
}

/// The schema, the role, the grants and the files' own statements.
fn without_bookkeeping(message: &str) -> String {
    let mut kept = String::new();
    let (mut ledger, mut record) = (false, false);
    for line in message.lines() {
        let start = line.trim_start();
        ledger |= start.starts_with("create table") && start.contains("schema_migrations");
        record |= start.starts_with("insert into public.cgk_migration_files");
        let own = ledger
            || record
            || start.starts_with("select (case when")
            || start.starts_with("declare cgk_transaction")
            || start.starts_with("close cgk_transaction")
            || start.starts_with("close all;")
            || start.starts_with("set constraints all immediate; close all;")
            || start.starts_with("select 'cgk:")
            || start.starts_with("select pg_catalog.pg_advisory")
            || start.starts_with("select 1 / (case")
            || start.starts_with("reset all")
            || start.starts_with("set transaction")
            || (start.starts_with("select pg_catalog.set_config('client_connection"))
            || ["insert into", "comment on table", "revoke all on"]
                .iter()
                .any(|word| start.starts_with(word) && start.contains("schema_migrations"));
        if own {
            // The path is set in the marks, and the files need it.
            if start.starts_with("select 'cgk:") && start.contains("search_path") {
                kept.push_str(&format!("set local search_path to \"tenant_{RECORDED}\", public;\n"));
            }
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
        ledger &= line.trim() != ");";
        record &= !line.trim_end().ends_with(';');
    }
    kept
}
