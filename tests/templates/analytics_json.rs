//! What the CHECKs of the template analytics accept and what the types of `cgk::analytics` read are the same: random values of
//! the types, and random changes of their JSON, go both ways.

use crate::stage::Stage;
use cgk::analytics::{
    Aggregate, Automation, Channel, Channels, ChartShape, Choices, Column, ColumnName, ColumnType, Columns, Comparison,
    Direction, Filter, FilterValue, Filters, Finite, Label, ReportFormat, Schedule, Series, Sort, WidgetConfig,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::fmt::Debug;

/// Values of each type, and changed texts of each.
const VALUES: usize = 400;
const CHANGED: usize = 4000;

/// Random numbers from a seed that is printed (splitmix64).
struct Draw(u64);

impl Draw {
    fn new(what: &str) -> Self {
        let seed = rand::random();
        crate::stage::say(&format!("seed of {what}: {seed}"));
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn coin(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// A length, with both ends more often than chance has them.
    fn length(&mut self, low: usize, high: usize) -> usize {
        match self.below(12) {
            0 => low,
            1 => high,
            _ => low + self.below((high - low + 1).min(6)),
        }
    }

    fn text(&mut self, low: usize, high: usize, characters: &str) -> String {
        let characters: Vec<char> = characters.chars().collect();
        (0..self.length(low, high)).map(|_| self.pick(&characters)).collect()
    }

    fn integer<T: TryFrom<u32, Error: Debug>>(&mut self, low: u32, high: u32) -> T {
        let number = match self.below(6) {
            0 => low,
            1 => high,
            _ => low + u32::try_from(self.below(usize::try_from(high - low).unwrap() + 1)).unwrap(),
        };
        number.try_into().unwrap()
    }

    fn maybe<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.coin().then(|| draw(self))
    }

    fn list<T>(&mut self, low: usize, high: usize, draw: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.length(low, high)).map(|_| draw(self)).collect()
    }

    fn column_name(&mut self) -> ColumnName {
        let first = self.text(1, 1, "abz_");
        (first + &self.text(0, 62, "abz_059")).parse().unwrap()
    }

    fn label(&mut self) -> Label {
        self.text(1, 200, "aZ 9\"\\'{}\n\t\u{1}é漢😀%$").parse().unwrap()
    }

    fn finite(&mut self) -> Finite {
        let number = match self.below(8) {
            0 => 1e300,
            1 => -1e300,
            2 => 0.0,
            3 => f64::MIN_POSITIVE,
            4 => 0.1 + 0.2,
            #[expect(clippy::cast_precision_loss, reason = "any number will do")]
            _ => (self.next() as f64 - 9e18) * 10f64.powi(i32::try_from(self.below(40)).unwrap() - 20),
        };
        number.try_into().unwrap()
    }

    fn aggregate(&mut self) -> Aggregate {
        use Aggregate::{Average, Count, CountDistinct, Maximum, Minimum, Sum};
        self.pick(&[Count, CountDistinct, Sum, Average, Minimum, Maximum])
    }

    fn column_type(&mut self) -> ColumnType {
        match self.below(7) {
            0 => ColumnType::Text {},
            1 => ColumnType::Integer {},
            2 => ColumnType::Number { scale: self.maybe(|draw| draw.integer(0, 20)) },
            3 => ColumnType::Boolean {},
            4 => ColumnType::Date {},
            5 => ColumnType::Timestamp {},
            _ => {
                let mut values = self.list(1, 100, Self::label);
                values.sort();
                values.dedup();
                ColumnType::Choice { values: Choices::try_from(values).unwrap() }
            }
        }
    }

    fn columns(&mut self) -> Columns {
        let mut columns = self.list(1, 60, |draw| {
            let mut column = Column::new(draw.column_name(), draw.column_type());
            column.nullable = draw.coin();
            column.description = draw.maybe(Self::label);
            column
        });
        columns.sort_by(|one, other| one.name.cmp(&other.name));
        columns.dedup_by(|one, other| one.name == other.name);
        Columns::new(columns).unwrap()
    }

    fn widget(&mut self) -> WidgetConfig {
        match self.below(4) {
            0 => WidgetConfig::Number {
                column: self.column_name(),
                aggregate: self.aggregate(),
                unit: self.maybe(Self::label),
            },
            1 => WidgetConfig::Table {
                columns: self.list(1, 50, Self::column_name).try_into().unwrap(),
                rows_max: self.integer(1, 1000),
                sort: self.maybe(|draw| Sort {
                    column: draw.column_name(),
                    direction: draw.pick(&[Direction::Ascending, Direction::Descending]),
                }),
            },
            2 => {
                let series = self.list(1, 10, |draw| Series {
                    column: draw.column_name(),
                    aggregate: draw.aggregate(),
                    label: draw.maybe(Self::label),
                });
                WidgetConfig::Chart {
                    shape: self.pick(&[ChartShape::Line, ChartShape::Bar, ChartShape::Area, ChartShape::Pie]),
                    x: self.column_name(),
                    series: series.try_into().unwrap(),
                    stacked: self.coin(),
                }
            }
            _ => WidgetConfig::Text { markdown: self.text(1, 10_000, "# é😀\n*a").parse().unwrap() },
        }
    }

    fn filters(&mut self) -> Filters {
        let filter = |draw: &mut Self| match draw.below(3) {
            0 => Filter::Equals {
                column: draw.column_name(),
                value: match draw.below(3) {
                    0 => FilterValue::Boolean(draw.coin()),
                    1 => FilterValue::Number(draw.finite()),
                    _ => FilterValue::Text(draw.label()),
                },
            },
            1 => {
                Filter::OneOf { column: draw.column_name(), values: draw.list(1, 100, Self::label).try_into().unwrap() }
            }
            _ => Filter::Between { column: draw.column_name(), low: draw.finite(), high: draw.finite() },
        };
        self.list(0, 20, filter).try_into().unwrap()
    }

    fn channels(&mut self) -> Channels {
        let channel = |draw: &mut Self| match draw.coin() {
            true => Channel::Email {
                address: format!("{}@{}", draw.text(1, 159, "a.+!?~Z"), draw.text(1, 159, "a.-Z")).parse().unwrap(),
            },
            false => Channel::Webhook { url: format!("https://{}", draw.text(1, 1992, "a./?&=%~!Z")).parse().unwrap() },
        };
        self.list(1, 20, channel).try_into().unwrap()
    }

    fn schedule(&mut self) -> Schedule {
        let minute = self.integer(0, 59);
        match self.below(4) {
            0 => Schedule::Hour { minute },
            1 => Schedule::Day { hour: self.integer(0, 23), minute },
            2 => Schedule::Week { weekday: self.integer(1, 7), hour: self.integer(0, 23), minute },
            _ => Schedule::Month { day: self.integer(1, 31), hour: self.integer(0, 23), minute },
        }
    }

    fn automation(&mut self) -> Automation {
        match self.coin() {
            true => Automation::ThresholdAlert {
                column: self.column_name(),
                aggregate: self.aggregate(),
                comparison: self.pick(&[Comparison::Above, Comparison::AtLeast, Comparison::Below, Comparison::AtMost]),
                threshold: self.finite(),
                window_minutes: self.integer(1, 525_600),
                cooldown_minutes: self.integer(0, 525_600),
                channels: self.channels(),
            },
            false => Automation::ScheduledReport {
                schedule: self.schedule(),
                time_zone: (self.text(1, 1, "aZ") + &self.text(0, 63, "aZ0_+/-")).parse().unwrap(),
                format: self.pick(&[ReportFormat::Pdf, ReportFormat::Csv, ReportFormat::Xlsx]),
                channels: self.channels(),
            },
        }
    }

    /// Something that may stand anywhere in a JSON text.
    fn junk(&mut self) -> Value {
        let long = |length: usize| json!("x".repeat(length));
        let all = [
            Value::Null,
            json!(true),
            json!(false),
            json!(""),
            json!("a"),
            json!("A"),
            json!("é"),
            json!("a b"),
            json!("text"),
            json!("email"),
            json!("day"),
            json!("a@b"),
            json!("a@b@c"),
            json!("https://x"),
            json!("http://x"),
            json!(0),
            json!(1),
            json!(-1),
            json!(0.5),
            json!(7),
            json!(8),
            json!(23),
            json!(24),
            json!(59),
            json!(60),
            json!(31),
            json!(32),
            json!(1000),
            json!(1001),
            json!(525_600),
            json!(525_601),
            json!(4_294_967_296_u64),
            json!(1e300),
            json!(1.1e300),
            json!(-1e301),
            json!([]),
            json!({}),
            json!(["a"]),
            json!(["a", "a"]),
            json!([["a"]]),
            json!({"type": "text"}),
            json!({"type": "date", "x": 1}),
            long(63),
            long(64),
            long(65),
            long(200),
            long(201),
            long(320),
            long(321),
            long(2001),
            long(10_000),
            long(10_001),
        ];
        self.pick(&all)
    }

    /// Changes something somewhere in a JSON text.
    fn change(&mut self, value: &mut Value) {
        let deeper = self.below(4) > 0;
        match value {
            Value::Object(map) if deeper && !map.is_empty() => {
                let keys: Vec<String> = map.keys().cloned().collect();
                let key = self.pick(&keys);
                match self.below(12) {
                    0 => drop(map.remove(&key)),
                    1 => drop(map.insert("extra".into(), self.junk())),
                    2 => {
                        let taken = map.remove(&key).unwrap();
                        map.insert(self.pick(&keys), taken);
                    }
                    3 => {
                        let word = ["type", "scale", "values", "unit", "label", "sort", "description", "hour", "url"];
                        map.insert(self.pick(&word).into(), self.junk());
                    }
                    _ => self.change(map.get_mut(&key).unwrap()),
                }
            }
            Value::Array(items) if deeper && !items.is_empty() => {
                let at = self.below(items.len());
                match self.below(8) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    2 => items.insert(at, self.junk()),
                    3 => {
                        let times = self.pick(&[2, 10, 11, 20, 21, 50, 51, 100, 101]);
                        *items = std::iter::repeat_n(items[at].clone(), times).collect();
                    }
                    _ => self.change(&mut items[at]),
                }
            }
            Value::String(text) if deeper => match self.below(5) {
                0 => text.push(self.pick(&['a', 'A', '-', ' ', '@', 'é', '/', '\n', '0'])),
                1 => text.insert(0, self.pick(&['a', 'A', '-', ' ', '@', 'é', '0', '_'])),
                2 => drop(text.pop()),
                3 => *text = text.to_uppercase(),
                _ => text.push_str(&"x".repeat(self.below(70))),
            },
            Value::Number(number) if deeper => {
                let number = number.as_f64().unwrap();
                *value = match self.below(5) {
                    0 => json!(number + 1.0),
                    1 => json!(-number),
                    2 => json!(number + 0.5),
                    3 => json!(number * 1e10),
                    _ => json!(u64::try_from(self.below(100)).unwrap()),
                };
            }
            _ => *value = self.junk(),
        }
    }
}

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
