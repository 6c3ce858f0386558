//! What the CHECKs of the template analytics accept and what the types of `cgk::analytics` read are the same: random values of
//! the types, and random changes of their JSON, go both ways.

use crate::{analytics_values::Draw, stage::Stage};
use cgk::analytics::{
    Automation, Channels, Choices, Column, ColumnName, ColumnType, Columns, Comparison, Filters, Finite, Label,
    WidgetConfig,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::fmt::Debug;

/// Values of each type, and changed texts of each.
const VALUES: usize = 400;
const CHANGED: usize = 4000;

/// Whether the database accepts each text, and how it writes it.
async fn verdicts(stage: &Stage, check: &str, texts: &[String]) -> Vec<(bool, String)> {
    let sql = format!(
        "select tenant_acme.{check}(t.text::jsonb), t.text::jsonb::text from unnest($1::text[]) with ordinality t (text, n) order by n"
    );
    let rows = stage.watch.query(&sql, &[&texts]).await.unwrap_or_else(|error| panic!("{check}: {error:?}"));
    rows.iter().map(|row| (row.try_get(0).expect("true or false, never null"), row.get(1))).collect()
}

/// What is accepted is read. What is read although it is refused is not as the type writes it, and so never comes from it.
fn agree<T: Serialize + DeserializeOwned + Debug>(check: &str, accepted: bool, stored: &str) {
    let read = serde_json::from_str::<T>(stored);
    let as_written = read
        .as_ref()
        .is_ok_and(|value| serde_json::to_value(value).unwrap() == serde_json::from_str::<Value>(stored).unwrap());
    assert!(
        if accepted { read.is_ok() } else { !as_written },
        "{check} says {accepted} to {stored}, and the type {read:?}"
    );
}

/// Both directions for one type.
async fn goes_both_ways<T>(stage: &Stage, check: &str, draw: fn(&mut Draw) -> T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let mut random = Draw::new(check);
    let values: Vec<T> = (0..VALUES).map(|_| draw(&mut random)).collect();
    let texts: Vec<String> = values.iter().map(|value| serde_json::to_string(value).unwrap()).collect();
    for ((value, text), (accepted, stored)) in values.iter().zip(&texts).zip(verdicts(stage, check, &texts).await) {
        assert!(accepted, "{check} refuses {text}");
        assert_eq!(serde_json::from_str::<T>(&stored).unwrap(), *value);
    }

    let changed: Vec<String> = (0..CHANGED)
        .map(|_| {
            let mut value = serde_json::to_value(draw(&mut random)).unwrap();
            for _ in 0..=random.below(2) {
                random.change(&mut value);
            }
            value.to_string()
        })
        .collect();
    let mut counts = [0, 0];
    for (accepted, stored) in verdicts(stage, check, &changed).await {
        agree::<T>(check, accepted, &stored);
        counts[usize::from(accepted)] += 1;
    }
    crate::stage::say(&format!("{check}: of {CHANGED} changed texts {} are accepted", counts[1]));
    assert!(counts.iter().all(|count| *count > CHANGED / 50), "{counts:?}");
}

#[tokio::test]
async fn columns_are_accepted_and_read_alike() {
    let stage = Stage::with(&["analytics"]).await;
    goes_both_ways(&stage, "analytics_are_columns", Draw::columns).await;
}

#[tokio::test]
async fn what_widgets_show_is_accepted_and_read_alike() {
    let stage = Stage::with(&["analytics"]).await;
    goes_both_ways(&stage, "analytics_is_widget_config", Draw::widget).await;
    goes_both_ways(&stage, "analytics_are_filters", Draw::filters).await;
}

#[tokio::test]
async fn automations_are_accepted_and_read_alike() {
    let stage = Stage::with(&["analytics"]).await;
    goes_both_ways(&stage, "analytics_is_automation", Draw::automation).await;
    goes_both_ways(&stage, "analytics_is_schedule", Draw::schedule).await;
    goes_both_ways(&stage, "analytics_are_channels", Draw::channels).await;
}

/// Forms that serde reads besides the one that it writes: the tables refuse them, and what is read is written in a form that they
/// accept.
#[tokio::test]
async fn a_form_that_only_serde_reads_is_written_as_the_tables_have_it() {
    async fn is_rewritten<T: Serialize + DeserializeOwned>(stage: &Stage, check: &str, text: &str) {
        let written = serde_json::to_string(&serde_json::from_str::<T>(text).expect(text)).unwrap();
        let said = verdicts(stage, check, &[text.into(), written.clone()]).await;
        assert_eq!([said[0].0, said[1].0], [false, true], "{text} and {written}");
    }
    let stage = Stage::with(&["analytics"]).await;
    // The number of a kind for its name, values without their keys, and a name as a key.
    let hourly = r#"{"type": "scheduled_report", "schedule": {"every": 0, "minute": 59}, "time_zone": "UTC", "format": "pdf",
                     "channels": [{"type": "email", "address": "a@b.c"}]}"#;
    is_rewritten::<Automation>(&stage, "analytics_is_automation", hourly).await;
    is_rewritten::<Channels>(&stage, "analytics_are_channels", r#"[["email", "a@b.c"]]"#).await;
    is_rewritten::<Columns>(&stage, "analytics_are_columns", r#"[["a", {"type": "text"}, false]]"#).await;
    let sum = r#"{"type": "number", "column": "a", "aggregate": {"sum": null}}"#;
    is_rewritten::<WidgetConfig>(&stage, "analytics_is_widget_config", sum).await;
}

/// Texts that no value of serde_json can hold, or that it would write otherwise.
#[tokio::test]
async fn numbers_are_judged_as_they_are_written() {
    let stage = Stage::with(&["analytics"]).await;
    let filter = |number: &str| format!(r#"[{{"type": "between", "column": "a", "low": {number}, "high": 1}}]"#);
    for (number, accepted) in
        [("1e400", false), ("-1e400", false), ("1e300", true), ("1e-400", true), ("-0", true), ("1e2", true)]
    {
        let (said, stored) = verdicts(&stage, "analytics_are_filters", &[filter(number)]).await.remove(0);
        assert_eq!((said, serde_json::from_str::<Filters>(&stored).is_ok()), (accepted, accepted), "{number}");
    }
    let table = |rows: &str| format!(r#"{{"type": "table", "columns": ["a"], "rows_max": {rows}}}"#);
    for (rows, accepted) in [("5", true), ("5.0", false), ("5e0", true), ("1e2", true), ("0.5e1", true), ("0.5", false)]
    {
        let (said, stored) = verdicts(&stage, "analytics_is_widget_config", &[table(rows)]).await.remove(0);
        let read = serde_json::from_str::<WidgetConfig>(&stored).is_ok();
        assert_eq!(said, read, "{rows} is stored as {stored}");
        assert_eq!(said, accepted, "{rows} is stored as {stored}");
    }
}

/// The control of the above: a CHECK that is wider than the type is found.
#[tokio::test]
async fn a_check_that_accepts_more_than_the_type_is_found() {
    let stage = Stage::with(&["analytics"]).await;
    stage
        .observe(
            "create or replace function tenant_acme.analytics_is_label(value jsonb) returns boolean
             language sql immutable parallel safe return jsonb_typeof(value) = 'string'",
        )
        .await;
    let long =
        json!([{"name": "a", "kind": {"type": "text"}, "nullable": true, "description": "x".repeat(201)}]).to_string();
    let (accepted, stored) = verdicts(&stage, "analytics_are_columns", &[long]).await.remove(0);
    assert!(accepted && serde_json::from_str::<Columns>(&stored).is_err());
}

#[test]
fn wrong_values_cannot_be_made() {
    assert!(
        "".parse::<ColumnName>().is_err() && "1a".parse::<ColumnName>().is_err() && "A".parse::<ColumnName>().is_err()
    );
    assert!("\0".parse::<Label>().is_err() && "x".repeat(201).parse::<Label>().is_err());
    for number in [f64::NAN, f64::INFINITY, 1.1e300] {
        assert!(Finite::try_from(number).is_err());
    }
    let column = || Column::new("a".parse().unwrap(), ColumnType::Text {});
    let twice = Columns::new(vec![column(), column()]).unwrap_err();
    assert_eq!(twice.to_string(), "a dataset has 1 to 500 columns, each name once");
    assert!(Columns::new(Vec::new()).is_err());
    assert_eq!(Finite::try_from(0.1 + 0.2).unwrap().get(), 0.3);
    assert_eq!(Finite::try_from(-1e-310).unwrap().get(), 0.0);
    assert!(Columns::new(vec![column()]).unwrap().items()[0].description.is_none());
    let label: Label = "a".parse().unwrap();
    assert!(Choices::try_from(vec![label.clone(), label.clone()]).is_err());
    assert_eq!(Choices::try_from(vec![label.clone()]).unwrap().items()[0].as_str(), label.to_string());
    assert!(Channels::try_from(Vec::new()).is_err());
    let object = Map::new();
    assert!(serde_json::from_value::<Automation>(Value::Object(object)).is_err());
}

#[test]
fn a_threshold_is_crossed_on_its_side() {
    let at = Finite::try_from(2.0).unwrap();
    let sides = [
        (Comparison::Above, [false, false, true]),
        (Comparison::AtLeast, [false, true, true]),
        (Comparison::Below, [true, false, false]),
        (Comparison::AtMost, [true, true, false]),
    ];
    for (comparison, held) in sides {
        assert_eq!([1.0, 2.0, 3.0].map(|measured| comparison.holds(measured, at)), held, "{comparison:?}");
    }
    assert!(!Comparison::Above.holds(f64::NAN, at));
}
