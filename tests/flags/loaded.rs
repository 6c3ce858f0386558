//! What is loaded of an environment, and what a feature is for whom by that; the same in SQL and in Rust.

use crate::{platform::slug, stage::Stage};
use cgk::flags::{self, Condition, Environment, Flags, FlagsError, FlagsSettings, Reason, Subject, bucket};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::json;

const FEATURES: &str = r#"
    insert into features (key, name, enabled) values ('plain', 'Plain', true), ('dark', 'Dark', false);
    insert into features (key, name, enabled, on_value, off_value) values ('limit', 'Limit', true, '{"rows": 10}', '{"rows": 5}');
    insert into features (key, name, kind, percentage, enabled) values ('gradual', 'Gradual', 'percentage', 33.333, true);
    insert into features (key, name, kind, enabled) values ('sso', 'SSO', 'plan', true);
    insert into feature_rules (feature_id, environment_id, position, enabled, conditions)
    select f.id, e.id, 2, true, '[{"attribute": "email", "operator": "ends_with", "values": ["@cgk.dev"]}]'
      from features f, environments e where f.key = 'dark' and e.name = 'prod';
    insert into feature_rules (feature_id, environment_id, position, enabled, conditions)
    select f.id, e.id, 1, false, '[{"attribute": "email", "operator": "in", "values": ["eve@cgk.dev"]}]'
      from features f, environments e where f.key = 'dark' and e.name = 'prod';
    insert into feature_rules (feature_id, environment_id, position, enabled)
    select f.id, e.id, 1, false from features f, environments e where f.key = 'plain' and e.name = 'staging'"#;

fn environment(stage: flags::Stage) -> Environment {
    Environment::of(stage)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_environment_has_its_own_rules() {
    let stage = Stage::set().await;
    stage.run(FEATURES).await;
    let flags = Flags::new(&stage.db, FlagsSettings::default());
    let prod = flags.snapshot(&slug("acme"), &environment(flags::Stage::Prod)).await.unwrap();
    let staging = flags.snapshot(&slug("acme"), &environment(flags::Stage::Staging)).await.unwrap();
    let ada = Subject::new("ada").with("email", "ada@cgk.dev");
    let eve = Subject::new("eve").with("email", "eve@cgk.dev");

    assert!(prod.is_on("plain", &ada) && !staging.is_on("plain", &ada));
    // The rules of one feature in their order: eve is excluded before staff is let in.
    assert!(prod.is_on("dark", &ada) && !prod.is_on("dark", &eve) && !staging.is_on("dark", &ada));
    let limit = prod.evaluate("limit", &ada).unwrap();
    assert_eq!((limit.value, limit.reason), (&json!({"rows": 10}), Reason::Default));
    for n in 0..300 {
        let key = format!("user-{n}");
        assert_eq!(prod.is_on("gradual", &Subject::new(key.as_str())), bucket("gradual", &key) < 33_333, "{key}");
    }
    let mut keys: Vec<&str> = prod.keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["dark", "gradual", "limit", "plain", "sso"]);
    assert!(prod.evaluate("other", &ada).is_none() && !prod.is_on("other", &ada));
    // Of another tenant nothing.
    let globex = flags.snapshot(&slug("globex"), &environment(flags::Stage::Prod)).await.unwrap();
    assert_eq!(globex.keys().count(), 0);
    assert_ne!(globex.organization(), prod.organization());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said() {
    let stage = Stage::set().await;
    let flags = Flags::new(&stage.db, FlagsSettings::default());
    let elsewhere = environment(flags::Stage::Prod).project("web");
    let missing = flags.snapshot(&slug("acme"), &elsewhere).await.unwrap_err();
    assert!(matches!(&missing, FlagsError::NoSuchEnvironment { environment } if *environment == elsewhere));
    assert_eq!((missing.to_string().as_str(), missing.status().as_u16()), ("there is no environment web/prod", 404));
    let prod = environment(flags::Stage::Prod);
    let missing = flags.is_on(&slug("acme"), &prod, "beta", &Subject::anonymous()).await.unwrap_err();
    assert!(matches!(&missing, FlagsError::NoSuchFeature { key } if key == "beta"));
    let nobody = flags.snapshot(&slug("nobody"), &prod).await.unwrap_err();
    assert!(matches!(&nobody, FlagsError::Database(error) if error.kind() == cgk::ErrorKind::NotFound), "{nobody:?}");
    stage.run("alter table feature_rules rename to former_rules").await;
    flags.forget_all();
    let missing = flags.snapshot(&slug("acme"), &prod).await.unwrap_err();
    assert!(matches!(missing, FlagsError::TablesMissing { .. }), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_loads_what_it_has_changed_itself() {
    let stage = Stage::set().await;
    stage.run(FEATURES).await;
    let dev = environment(flags::Stage::Dev);
    let flags = Flags::new(&stage.db, FlagsSettings::default());
    let db = stage.db.errors::<FlagsError>();
    let acme = slug("acme");
    let nobody = Subject::anonymous();
    let (inside, remembered) = db
        .with_tenant(&acme, async |tx| {
            tx.execute("update features set enabled = true where key = 'dark'", &[]).await?;
            let inside = flags::load(tx, &dev).await?.is_on("dark", &nobody);
            // On a connection of its own, which sees what is committed.
            Ok((inside, flags.snapshot(&acme, &dev).await?.is_on("dark", &nobody)))
        })
        .await
        .unwrap();
    assert!(inside && !remembered);
}

/// Which part of all is in a rollout is the same for whoever computes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_the_same_in_sql() {
    let stage = Stage::set().await;
    let seed: u64 = std::env::var("CGK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(14);
    crate::stage::say(&format!("seed {seed}"));
    let keys: Vec<String> = (0..2000).map(|n| format!("{seed}-{n}-\u{fc}\u{1f600}'\\")).collect();
    let rows = stage.watch.query("select k, flag_bucket('beta', k) from unnest($1::text[]) k", &[&keys]).await.unwrap();
    assert_eq!(rows.len(), 2000);
    for row in rows {
        let (key, sql): (String, i32) = (row.get(0), row.get(1));
        assert_eq!(i64::from(bucket("beta", &key)), i64::from(sql), "{key}");
    }
}

/// Anything near a condition, good or bad.
fn near_conditions() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof![Just(String::new()), "[a-z]{1,3}", "\\PC{1,4}"];
    let scalar = prop_oneof![
        4 => text.clone().prop_map(serde_json::Value::from),
        3 => any::<i16>().prop_map(serde_json::Value::from),
        1 => any::<bool>().prop_map(serde_json::Value::from),
        1 => prop_oneof![Just(1e15), Just(-1e15), Just(1.1e15), Just(0.1)].prop_map(|number| json!(number)),
        1 => prop_oneof![Just(json!(null)), Just(json!([])), Just(json!({}))],
    ];
    let operator = prop_oneof![
        12 => proptest::sample::select(vec![
            "in", "not_in", "starts_with", "ends_with", "contains", "less", "less_or_equal", "greater", "greater_or_equal",
        ])
        .prop_map(|name| json!(name)),
        1 => Just(json!("matches")),
        1 => Just(json!(1)),
    ];
    let values = prop_oneof![12 => proptest::collection::vec(scalar.clone(), 0..3).prop_map(|values| json!(values)), 1 => scalar];
    let attribute = prop_oneof![8 => text.prop_map(|text| json!(text)), 1 => Just(json!(7))];
    let extra = prop_oneof![10 => Just(None), 1 => Just(Some("negated")), 1 => Just(Some(""))];
    let left_out = prop_oneof![12 => Just(None), 1 => proptest::sample::select(vec!["attribute", "operator", "values"]).prop_map(Some)];
    (attribute, operator, values, extra, left_out).prop_map(|(attribute, operator, values, extra, left_out)| {
        let mut condition = json!({"attribute": attribute, "operator": operator, "values": values});
        let members = condition.as_object_mut().unwrap();
        if let Some(extra) = extra {
            members.insert(extra.into(), json!(true));
        }
        left_out.map(|name| members.remove(name));
        condition
    })
}

/// The constraint of the table takes exactly what the type reads.
#[tokio::test(flavor = "multi_thread")]
async fn the_constraint_takes_what_the_type_reads() {
    let stage = Stage::set().await;
    stage.run(FEATURES).await;
    let mut runner = TestRunner::deterministic();
    let (mut good, mut bad) = (0, 0);
    for _ in 0..1500 {
        let condition = near_conditions().new_tree(&mut runner).unwrap().current();
        let reads = serde_json::from_value::<Condition>(condition.clone()).is_ok();
        let update = "update feature_rules set conditions = $1::text::jsonb where position = 2";
        let stored = stage.watch.execute(update, &[&json!([condition]).to_string()]).await;
        assert_eq!(stored.is_ok(), reads, "{condition}: {stored:?}");
        *(if reads { &mut good } else { &mut bad }) += 1;
        if let Ok(condition) = serde_json::from_value::<Condition>(condition) {
            // What is written is read again.
            let written = serde_json::to_string(&condition).unwrap();
            assert_eq!(serde_json::from_str::<Condition>(&written).unwrap(), condition);
            let json = json!([serde_json::from_str::<serde_json::Value>(&written).unwrap()]).to_string();
            assert_eq!(stage.watch.execute(update, &[&json]).await.unwrap(), 1, "{json}");
        }
    }
    assert!(good > 100 && bad > 1000, "{good} {bad}");
}
