//! Random values of the types of `cgk::analytics`, and random changes of their JSON.

use cgk::analytics::{
    Aggregate, Automation, Channel, Channels, ChartShape, Choices, Column, ColumnName, ColumnType, Columns, Comparison,
    Direction, Filter, FilterValue, Filters, Finite, Label, ReportFormat, Schedule, Series, Sort, WidgetConfig,
};
use serde_json::{Value, json};
use std::fmt::Debug;

/// Random numbers from a seed that is printed (splitmix64).
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(what: &str) -> Self {
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

    pub(crate) fn below(&mut self, end: usize) -> usize {
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

    pub(crate) fn columns(&mut self) -> Columns {
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

    pub(crate) fn widget(&mut self) -> WidgetConfig {
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

    pub(crate) fn filters(&mut self) -> Filters {
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

    pub(crate) fn channels(&mut self) -> Channels {
        let channel = |draw: &mut Self| match draw.coin() {
            true => Channel::Email {
                address: format!("{}@{}", draw.text(1, 159, "a.+!?~Z"), draw.text(1, 159, "a.-Z")).parse().unwrap(),
            },
            false => Channel::Webhook { url: format!("https://{}", draw.text(1, 1992, "a./?&=%~!Z")).parse().unwrap() },
        };
        self.list(1, 20, channel).try_into().unwrap()
    }

    pub(crate) fn schedule(&mut self) -> Schedule {
        let minute = self.integer(0, 59);
        match self.below(4) {
            0 => Schedule::Hour { minute },
            1 => Schedule::Day { hour: self.integer(0, 23), minute },
            2 => Schedule::Week { weekday: self.integer(1, 7), hour: self.integer(0, 23), minute },
            _ => Schedule::Month { day: self.integer(1, 31), hour: self.integer(0, 23), minute },
        }
    }

    pub(crate) fn automation(&mut self) -> Automation {
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
    pub(crate) fn change(&mut self, value: &mut Value) {
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
