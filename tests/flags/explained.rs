//! What the queries read with 1,000 features in three environments.

use crate::{
    platform::{must_end, slug},
    stage::Stage,
};
use cgk::{Db, TxOptions};

const FEATURES: &str = r#"
    insert into features (key, name, kind, percentage, enabled)
    select 'feature_' || n, 'Feature', case when n % 3 = 0 then 'percentage' else 'boolean' end, case when n % 3 = 0 then 10 end, true
      from generate_series(1, 1000) n;
    insert into feature_rules (feature_id, environment_id, position, enabled, conditions)
    select f.id, e.id, 1, true, '[{"attribute": "plan", "operator": "in", "values": ["pro"]}]' from features f, environments e;
    analyze features, feature_rules, environments"#;

async fn plan(db: &Db, sql: &str) -> String {
    let explain = format!("explain (costs off) {sql}");
    let rows = db
        .with_tenant_in(&slug("acme"), &TxOptions::default().read_only(), async |tx| tx.query(&explain, &[]).await)
        .await
        .unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queries_use_their_indexes() {
    let stage = Stage::set().await;
    stage.run(FEATURES).await;
    let load = include_str!("../../src/flags/load.sql").replace("$1", "'default'").replace("$2", "'prod'");
    let by_rule = "feature_rules_environment_id_feature_id_position_key";
    let effective = "select r.* from feature_rules r join features f on f.id = r.feature_id
                      join environments e on e.id = r.environment_id
                     where f.key = 'feature_7' and e.project = 'default' and e.name = 'prod' order by r.position";
    let one = "select * from features where key = 'feature_7'";
    let in_order = "select * from features order by key limit 20";
    for (query, index) in [
        (load.as_str(), by_rule),
        (effective, by_rule),
        (effective, "features_key_key"),
        (one, "features_key_key"),
        (in_order, "features_key_key"),
    ] {
        let found = plan(&stage.db, query).await;
        assert!(found.contains(index), "{query}\n{found}");
        assert!(!found.contains("Seq Scan on feature_rules"), "{query}\n{found}");
    }
    // The control: without the index the rules are read one after the other.
    stage.run(&format!("alter table feature_rules drop constraint {by_rule}")).await;
    stage.run("drop index feature_rules_feature_id_idx").await;
    assert!(plan(&stage.db, effective).await.contains("Seq Scan on feature_rules"));
}

/// Everything is one statement, whatever the number of features.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_features_are_loaded_by_one_statement() {
    use cgk::flags::{Environment, Flags, FlagsSettings, Stage as Of};
    let stage = Stage::set().await;
    stage.run(FEATURES).await;
    let flags = Flags::new(&stage.db, FlagsSettings::default());
    must_end(flags.until_notified()).await;
    let snapshot = flags.snapshot(&slug("acme"), &Environment::of(Of::Prod)).await.unwrap();
    assert_eq!(snapshot.keys().count(), 1000);
    assert_eq!(flags.status().loads, 1);
}
