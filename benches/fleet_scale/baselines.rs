//! What cgk is compared with: the same SQL alone, refinery, and a migration tool of one process a schema.

use super::{
    Bench, SAMPLED,
    sandbox::{Raw, url},
};
use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

impl Bench {
    pub(super) async fn floor(&self, workers: usize, message: impl Fn(&str) -> String) -> f64 {
        self.over(workers, &self.slugs, message).await
    }

    /// One message a tenant, on so many connections.
    pub(super) async fn over(&self, workers: usize, slugs: &[String], message: impl Fn(&str) -> String) -> f64 {
        let messages: Arc<Vec<String>> = Arc::new(slugs.iter().map(|slug| message(slug)).collect());
        let taken = Arc::new(AtomicUsize::new(0));
        let mut connections = Vec::new();
        for _ in 0..workers {
            connections.push(Raw::on(&self.database).await);
        }
        let began = Instant::now();
        let tasks: Vec<_> = connections
            .into_iter()
            .map(|raw| {
                let (messages, taken) = (Arc::clone(&messages), Arc::clone(&taken));
                tokio::spawn(async move {
                    while let Some(message) = messages.get(taken.fetch_add(1, Ordering::Relaxed)) {
                        raw.run(message).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a worker");
        }
        began.elapsed().as_secs_f64()
    }

    /// refinery's own runner in each schema of a sample, with one migration or none; seconds for each.
    pub(super) async fn refinery(&self, sql: Option<String>) -> f64 {
        let sample = &self.slugs[..SAMPLED.min(self.slugs.len())];
        let number = self.next;
        let migrations: Vec<refinery::Migration> = sql
            .iter()
            .map(|sql| refinery::Migration::unapplied(&format!("V{number}__bench"), sql).expect("a migration"))
            .collect();
        let (mut client, connection) =
            tokio_postgres::connect(&url(&self.database, None), tokio_postgres::NoTls).await.expect("connect");
        tokio::spawn(connection);
        let mut took = 0.0;
        // The table that says what is applied is made before the clock runs, as on every run but the first.
        for timed in [false, true] {
            let began = Instant::now();
            for slug in sample {
                let path = format!("set search_path to \"tenant_{slug}\", public");
                client.execute(&path, &[]).await.expect("a path");
                let wanted = if timed { migrations.as_slice() } else { &[] };
                let mut runner = refinery::Runner::new(wanted).set_abort_missing(false);
                runner.set_migration_table_name(format!("tenant_{slug}.refinery_schema_history"));
                runner.run_async(&mut client).await.expect("a run");
            }
            took = began.elapsed().as_secs_f64() / sample.len() as f64;
        }
        took
    }

    /// One process in each schema of a sample, with one migration or none; seconds for each.
    pub(super) fn dbmate(&self, sql: Option<String>) -> Option<f64> {
        const PROCESSES: usize = 20;
        let program = std::env::var("CGK_BENCH_DBMATE").ok()?;
        let folder = self.files.path().join("dbmate");
        std::fs::create_dir_all(&folder).expect("a folder");
        let stamp = 20_260_101_000_000_u64 + self.next as u64;
        if let Some(sql) = sql {
            std::fs::write(
                folder.join(format!("{stamp}_bench.sql")),
                format!("-- migrate:up\n{sql};\n-- migrate:down\n"),
            )
            .expect("a file");
        } else if std::fs::read_dir(&folder).expect("a folder").next().is_none() {
            std::fs::write(folder.join("20250101000000_first.sql"), "-- migrate:up\nselect 1;\n-- migrate:down\n")
                .expect("a file");
        }
        let host = self.database.config().target().hosts()[0].clone();
        let cgk::config::TargetHost::Socket { directory, port } = host else { return None };
        let name = self.database.name();
        let mut took = 0.0;
        for timed in [false, true] {
            let began = Instant::now();
            for slug in self.slugs.iter().take(PROCESSES) {
                let address = format!(
                    "postgres://postgres@:{port}/{name}?host={directory}&sslmode=disable&search_path=tenant_{slug}"
                );
                // Once without the newest migration, so that its table is there.
                let newest = folder.join(format!("{stamp}_bench.sql"));
                let aside = folder.with_extension("aside");
                if !timed && newest.exists() {
                    std::fs::rename(&newest, &aside).expect("aside");
                }
                let output = Command::new(&program)
                    .args(["--no-dump-schema", "--migrations-table", "dbmate_migrations", "--migrations-dir"])
                    .arg(&folder)
                    .arg("migrate")
                    .env("DATABASE_URL", address)
                    .output()
                    .expect("dbmate");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                if aside.exists() {
                    std::fs::rename(&aside, &newest).expect("back");
                }
            }
            took = began.elapsed().as_secs_f64() / PROCESSES.min(self.slugs.len()) as f64;
        }
        Some(took)
    }
}
