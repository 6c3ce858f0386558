//! Evaluations a second in one thread, against a look-up in a hash map of as many entries in the same run.
//!
//! `cargo bench --bench flags`. The figures of a run are comparable with each other; the ratio is comparable between machines.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use cgk::{
    Db, Operator, TenantSlug,
    flags::{Environment, Flags, FlagsSettings, Snapshot, Stage, Subject},
    lifecycle::{self, CreateOptions},
    migrate::{Migrations, Set, Silent},
    setup,
    testing::TestServer,
};
use std::{
    collections::HashMap,
    fs,
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

const FEATURES: usize = 1000;
const SUBJECTS: usize = 1000;
const ROUNDS: usize = 5;
const PER_ROUND: usize = 1_000_000;

const FILL: [&str; 2] = [
    "insert into features (key, name, kind, percentage, enabled)
     select k || '_' || n, k, case k when 'percentage' then 'percentage' else 'boolean' end,
            case k when 'percentage' then 30 end, true
       from generate_series(1, 1000) n, unnest(array['boolean', 'percentage', 'targeted']) k",
    r#"insert into feature_rules (feature_id, environment_id, position, enabled, percentage, conditions)
     select f.id, e.id, 1, true, 50, '[{"attribute": "email", "operator": "ends_with", "values": ["@example.com"]},
                                      {"attribute": "age", "operator": "greater", "values": [17]}]'
       from features f, environments e where f.key like 'targeted_%'"#,
];

#[tokio::main]
async fn main() {
    let snapshot = load().await;
    let subjects: Vec<Subject> = (0..SUBJECTS)
        .map(|n| Subject::new(format!("user-{n}")).with("email", format!("user-{n}@example.com")).with("age", 36))
        .collect();
    let keys = |kind: &str| -> Vec<String> { (1..=FEATURES).map(|n| format!("{kind}_{n}")).collect() };
    let map: HashMap<String, bool> = keys("boolean").into_iter().map(|key| (key, true)).collect();
    let names = keys("boolean");
    let look_up = best(|n| map.get(names[n % FEATURES].as_str()).copied().unwrap_or_default());
    println!("{:<28} {:>12.0} a second", "look-up in a hash map", per_second(look_up));
    for kind in ["boolean", "percentage", "targeted"] {
        let names = keys(kind);
        // Every feature meets every subject in turn.
        let took = best(|n| snapshot.is_on(&names[n % FEATURES], &subjects[(n / FEATURES + n) % SUBJECTS]));
        let ratio = took.as_secs_f64() / look_up.as_secs_f64();
        println!("{kind:<28} {:>12.0} a second, {ratio:.1} look-ups each", per_second(took));
    }
}

/// The shortest time of a round.
fn best(work: impl Fn(usize) -> bool) -> Duration {
    let round = || {
        let began = Instant::now();
        for n in 0..PER_ROUND {
            black_box(work(black_box(n)));
        }
        began.elapsed()
    };
    (0..ROUNDS).map(|_| round()).min().expect("there is a round")
}

fn per_second(round: Duration) -> f64 {
    PER_ROUND as f64 / round.as_secs_f64()
}

/// What a service would have loaded, from a database with the template's tables.
async fn load() -> Arc<Snapshot> {
    let mut migrations = Migrations::bundled();
    for set in [Set::Public, Set::Tenant] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/flags").join(if set == Set::Public {
            "public"
        } else {
            "tenant"
        });
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = format!("9{}", file.file_name().unwrap().to_str().unwrap());
            migrations = migrations.with_file(set, &name, fs::read_to_string(&file).unwrap()).unwrap();
        }
    }
    let database = TestServer::shared().database().await.unwrap();
    let operator = Operator::connect(database.config()).await.unwrap();
    setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
    let db: Db = database.db().await.unwrap();
    let acme: TenantSlug = "acme".parse().unwrap();
    lifecycle::create(&operator, &db, &migrations, &acme, &CreateOptions::default()).await.unwrap();
    for sql in FILL {
        db.tenant(&acme).execute(sql, &[]).await.unwrap();
    }
    let flags = Flags::new(&db, FlagsSettings::default());
    flags.snapshot(&acme, &Environment::of(Stage::Prod)).await.unwrap()
}
