use super::*;
use proptest::prelude::*;
use serde_json::json;

fn feature(kind: Kind, enabled: bool, rules: serde_json::Value) -> Feature {
    let rules = serde_json::from_value(rules).unwrap();
    Feature { key: "beta".into(), kind, enabled, on_value: json!("new"), off_value: json!("old"), rules }
}

fn rule(conditions: serde_json::Value, enabled: bool, buckets: Option<u32>) -> serde_json::Value {
    json!({"conditions": conditions, "enabled": enabled, "buckets": buckets})
}

/// Each case is checked for a staff member, for another user, and for a visitor without a key.
#[test]
fn what_each_kind_is_for_whom() {
    use Reason::{Default, Disabled, Plan, Rollout, Rule, TargetingKeyMissing};
    let staff = json!([{"attribute": "email", "operator": "ends_with", "values": ["@cgk.dev"]}]);
    let ada = Subject::new("ada").with("email", "ada@cgk.dev");
    let bob = Subject::new("bob").with("email", "bob@example.com");
    let nobody = Subject::anonymous();
    let (of_ada, of_bob) = (bucket("beta", "ada"), bucket("beta", "bob"));
    assert_ne!(of_ada, of_bob);
    let (low, high) = (of_ada.min(of_bob), of_ada.max(of_bob));
    let half = low + 1;
    let ada_is_low = of_ada == low;
    assert!(high >= half);
    let in_half = |of: u32| (of < half, Rollout);
    let none = || json!([]);
    let cases = [
        ("boolean, off", feature(Kind::Boolean, false, none()), [(false, Disabled); 3]),
        ("boolean, on", feature(Kind::Boolean, true, none()), [(true, Default); 3]),
        (
            "percentage",
            feature(Kind::Percentage(half), true, none()),
            [in_half(of_ada), in_half(of_bob), (false, TargetingKeyMissing)],
        ),
        ("percentage, off", feature(Kind::Percentage(BUCKETS), false, none()), [(false, Disabled); 3]),
        ("0 percent", feature(Kind::Percentage(0), true, none()), [(false, Rollout); 3]),
        ("100 percent", feature(Kind::Percentage(BUCKETS), true, none()), [(true, Rollout); 3]),
        ("in the plan", feature(Kind::Plan(true), true, none()), [(true, Plan); 3]),
        ("in the plan, off", feature(Kind::Plan(true), false, none()), [(false, Disabled); 3]),
        ("not in the plan", feature(Kind::Plan(false), true, none()), [(false, Plan); 3]),
        (
            "not in the plan, whatever a rule says",
            feature(Kind::Plan(false), true, json!([rule(json!([]), true, None)])),
            [(false, Plan); 3],
        ),
        (
            "in the plan, and a rule takes it away",
            feature(Kind::Plan(true), true, json!([rule(json!([]), false, None)])),
            [(false, Rule); 3],
        ),
        (
            "switched on in this environment",
            feature(Kind::Boolean, false, json!([rule(json!([]), true, None)])),
            [(true, Rule); 3],
        ),
        (
            "switched off in this environment",
            feature(Kind::Boolean, true, json!([rule(json!([]), false, None)])),
            [(false, Rule); 3],
        ),
        (
            "for staff, and nobody else",
            feature(Kind::Boolean, false, json!([rule(staff.clone(), true, None)])),
            [(true, Rule), (false, Disabled), (false, Disabled)],
        ),
        (
            "for all but staff",
            feature(Kind::Boolean, true, json!([rule(staff.clone(), false, None)])),
            [(false, Rule), (true, Default), (true, Default)],
        ),
        (
            "for staff, then for a part of the others",
            feature(Kind::Boolean, true, json!([rule(staff.clone(), true, None), rule(json!([]), true, Some(half))])),
            [(true, Rule), in_half(of_bob), (false, TargetingKeyMissing)],
        ),
        (
            "the first rule decides, although it is off for the rest",
            feature(Kind::Boolean, true, json!([rule(json!([]), true, Some(0)), rule(json!([]), true, None)])),
            [(false, Rollout); 3],
        ),
        (
            "both conditions",
            feature(
                Kind::Boolean,
                false,
                json!([rule(json!([staff[0], {"attribute": "age", "operator": "less", "values": [9]}]), true, None)]),
            ),
            [(false, Disabled); 3],
        ),
    ];
    assert!(ada_is_low || of_bob == low);
    for (name, feature, expected) in cases {
        for (subject, expected) in [&ada, &bob, &nobody].into_iter().zip(expected) {
            let found = feature.evaluate(subject);
            assert_eq!((found.is_on, found.reason), expected, "{name}: {subject:?}");
            assert_eq!(*found.value, if expected.0 { json!("new") } else { json!("old") }, "{name}");
        }
        // An empty key counts as no key. Otherwise all visitors without a name would have the same bucket.
        assert_eq!(feature.evaluate(&Subject::new("")), feature.evaluate(&nobody), "{name}");
    }
}

/// A rollout to `n` buckets includes the buckets below `n`. Bucket `n` is the first one that is excluded.
#[test]
fn a_rollout_ends_before_the_bucket_of_its_number() {
    let ada = Subject::new("ada");
    let own = bucket("beta", "ada");
    for (buckets, is_on) in [(own, false), (own + 1, true)] {
        let beta = feature(Kind::Percentage(buckets), true, json!([]));
        let found = beta.evaluate(&ada);
        assert_eq!((found.is_on, found.reason.to_string()), (is_on, "rollout".to_owned()), "{buckets}");
    }
}

/// The same result as `flag_bucket` of the tables, and as any other program that follows the recipe.
#[test]
fn a_bucket_is_what_the_recipe_says() {
    for (feature, key, expected) in [
        ("new_checkout", "user-1", 15435),
        ("new_checkout", "ü", 55606),
        ("a", "", 64129),
        ("new_checkout", "user-42", 70192),
    ] {
        assert_eq!(bucket(feature, key), expected, "{feature} {key}");
    }
}

/// The result is within six standard deviations of the binomial distribution. A failure prints the seed. `CGK_SEED`
/// sets it.
#[test]
fn a_percentage_is_that_part_of_all() {
    let seed = std::env::var("CGK_SEED").unwrap_or_else(|_| "2026-11".into());
    let subjects = 50_000u32;
    for percent in [0.1f64, 1.0, 12.5, 33.3, 50.0, 90.0, 99.9] {
        for name in ["beta", "new_checkout"] {
            let buckets = (percent * 1000.0) as u32;
            let on = (0..subjects).filter(|n| bucket(name, &format!("{seed}-{n}")) < buckets).count() as f64;
            let (n, p) = (f64::from(subjects), percent / 100.0);
            let (mean, deviation) = (n * p, (n * p * (1.0 - p)).sqrt());
            assert!((on - mean).abs() < 6.0 * deviation, "{name}, {percent} percent: {on} of {subjects}, seed {seed}");
        }
    }
    // Positive control: the test detects a count that is wrong by a tenth.
    let deviation = (f64::from(subjects) * 0.25).sqrt();
    assert!(f64::from(subjects) * 0.05 > 6.0 * deviation);
}

/// Two rollouts are independent: a quarter of the subjects is in both halves.
#[test]
fn rollouts_of_two_features_are_independent() {
    let subjects = 50_000u32;
    let in_both = (0..subjects)
        .map(|n| format!("user-{n}"))
        .filter(|key| bucket("first", key) < BUCKETS / 2 && bucket("second", key) < BUCKETS / 2)
        .count() as f64;
    let (n, p) = (f64::from(subjects), 0.25);
    assert!((in_both - n * p).abs() < 6.0 * (n * p * (1.0 - p)).sqrt(), "{in_both}");
}

proptest! {
    #[test]
    fn a_rollout_only_grows(key in "\\PC{0,40}", first in 0u32..=BUCKETS, second in 0u32..=BUCKETS) {
        let (less, more) = (first.min(second), first.max(second));
        let subject = Subject::new(key);
        let is_on = |buckets| feature(Kind::Percentage(buckets), true, json!([])).evaluate(&subject).is_on;
        prop_assert!(!is_on(less) || is_on(more));
        let by_rule = |buckets| {
            feature(Kind::Boolean, false, json!([rule(json!([]), true, Some(buckets))])).evaluate(&subject).is_on
        };
        prop_assert_eq!(by_rule(less), is_on(less));
        prop_assert!(!is_on(0) && is_on(BUCKETS));
    }

    #[test]
    fn a_bucket_is_one_of_all(feature in "[a-z]{1,9}", key in "\\PC{0,40}") {
        prop_assert!(bucket(&feature, &key) < BUCKETS);
        prop_assert_eq!(bucket(&feature, &key), bucket(&feature, &key));
    }
}
