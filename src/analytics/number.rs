//! Numbers in a range.

use super::InvalidValue;

/// Defines a whole number that is checked when it is created.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $what:literal, $low:literal, $high:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "u32", into = "u32")]
        pub struct $name(u32);

        impl $name {
            /// Returns the number.
            pub fn get(self) -> u32 {
                self.0
            }
        }

        impl TryFrom<u32> for $name {
            type Error = InvalidValue;

            fn try_from(number: u32) -> Result<Self, InvalidValue> {
                if ($low..=$high).contains(&number) { Ok(Self(number)) } else { Err(InvalidValue::new($what, $rule)) }
            }
        }

        impl From<$name> for u32 {
            fn from(number: $name) -> Self {
                number.0
            }
        }
    };
}

number!(
    /// The number of digits that are shown after the decimal point: 0 to 20.
    Scale, "a scale", 0, 20, "is 0 to 20"
);
number!(
    /// The number of rows that a table shows: 1 to 1,000.
    RowsMax, "the number of rows", 1, 1000, "is 1 to 1,000"
);
number!(
    /// The time span of the data of an alert, in minutes: 1 minute to 1 year.
    WindowMinutes, "a window", 1, 525_600, "is 1 minute to a year"
);
number!(
    /// A time span in minutes: 0 to 1 year.
    Minutes, "a time", 0, 525_600, "is 0 minutes to a year"
);
number!(
    /// A minute of an hour.
    Minute, "a minute", 0, 59, "is 0 to 59"
);
number!(
    /// An hour of a day.
    Hour, "an hour", 0, 23, "is 0 to 23"
);
number!(
    /// A day of a week; Monday is 1.
    Weekday, "a day of the week", 1, 7, "is 1 to 7"
);
number!(
    /// A day of a month. In a month without this day, the last day is used.
    Day, "a day of the month", 1, 31, "is 1 to 31"
);

/// A number of at most 1e300, rounded to 15 significant digits. A number nearer to zero than 1e-300 becomes zero.
///
/// With 15 digits, a number does not change when it is written as JSON and read again by any parser. With 17 digits,
/// which a double may need, it may change.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Finite(f64);

impl Finite {
    /// Returns the number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Finite {
    type Error = InvalidValue;

    fn try_from(number: f64) -> Result<Self, InvalidValue> {
        let rounded = if number.abs() < 1e-300 { Some(0.0) } else { format!("{number:.14e}").parse().ok() };
        match rounded {
            Some(rounded) if (-1e300..=1e300).contains(&rounded) => Ok(Self(rounded)),
            _ => Err(InvalidValue::new("a number", "is finite, and at most 1e300")),
        }
    }
}

impl From<Finite> for f64 {
    fn from(number: Finite) -> Self {
        number.0
    }
}
