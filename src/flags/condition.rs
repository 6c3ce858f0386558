//! The conditions of a rule: the JSON of the column `conditions`, as a validated type.

use super::subject::{Attribute, Subject};
use serde::{Deserialize, Serialize};

/// The maximum number in a condition. A double represents every whole number up to it exactly.
const NUMBER_MAX: f64 = 1e15;

/// A condition of a rule on one attribute. In JSON:
/// `{"attribute": "plan", "operator": "in", "values": ["pro", "team"]}`.
///
/// If the subject does not have the attribute, no condition holds, not even `not_in`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Condition {
    attribute: String,
    operator: ConditionOperator,
    values: Vec<Scalar>,
}

/// How an attribute is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConditionOperator {
    /// The attribute equals one of the values.
    In,
    /// The attribute equals none of the values.
    NotIn,
    /// The attribute starts with one of the values. The values are texts.
    StartsWith,
    /// The attribute ends with one of the values. The values are texts.
    EndsWith,
    /// The attribute contains one of the values. The values are texts.
    Contains,
    /// The attribute is less than the single value, a number.
    Less,
    /// The attribute is less than or equal to the single value, a number.
    LessOrEqual,
    /// The attribute is greater than the single value, a number.
    Greater,
    /// The attribute is greater than or equal to the single value, a number.
    GreaterOrEqual,
}

/// A value that an attribute is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A text, compared byte by byte.
    Text(String),
    /// True or false.
    Bool(bool),
    /// A number from -10^15 to 10^15.
    Number(f64),
}

/// A condition that can never hold, or that would be interpreted differently from what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no condition: {0}")]
pub struct InvalidCondition(&'static str);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    attribute: String,
    operator: ConditionOperator,
    values: Vec<Scalar>,
}

impl TryFrom<Unchecked> for Condition {
    type Error = InvalidCondition;

    fn try_from(Unchecked { attribute, operator, values }: Unchecked) -> Result<Self, InvalidCondition> {
        Self::new(attribute, operator, values)
    }
}

impl Condition {
    /// Creates a condition.
    ///
    /// ```
    /// use cgk::flags::{Condition, ConditionOperator, Scalar};
    /// let of_staff = Condition::new("email", ConditionOperator::EndsWith, vec![Scalar::Text("@example.com".into())])?;
    /// let json = r#"{"attribute":"email","operator":"ends_with","values":["@example.com"]}"#;
    /// assert_eq!(serde_json::to_string(&of_staff).unwrap(), json);
    /// # Ok::<(), cgk::flags::InvalidCondition>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no attribute or no value, the operator cannot compare the values, a number is too large, or a text
    /// contains NUL.
    pub fn new(
        attribute: impl Into<String>,
        operator: ConditionOperator,
        values: Vec<Scalar>,
    ) -> Result<Self, InvalidCondition> {
        use ConditionOperator::{
            Contains, EndsWith, Greater, GreaterOrEqual, In, Less, LessOrEqual, NotIn, StartsWith,
        };
        let attribute = attribute.into();
        if attribute.is_empty() {
            return Err(InvalidCondition("it names no attribute"));
        }
        if values.is_empty() {
            return Err(InvalidCondition("it has no values"));
        }
        let in_range = |value: &Scalar| match value {
            Scalar::Number(number) => (-NUMBER_MAX..=NUMBER_MAX).contains(number),
            _ => true,
        };
        if !values.iter().all(in_range) {
            return Err(InvalidCondition("a number is too large"));
        }
        let has_nul = |value: &Scalar| matches!(value, Scalar::Text(text) if text.contains('\0'));
        if attribute.contains('\0') || values.iter().any(has_nul) {
            return Err(InvalidCondition("a text has a NUL"));
        }
        let fits = match operator {
            In | NotIn => true,
            StartsWith | EndsWith | Contains => {
                values.iter().all(|value| matches!(value, Scalar::Text(text) if !text.is_empty()))
            }
            Less | LessOrEqual | Greater | GreaterOrEqual => matches!(values.as_slice(), [Scalar::Number(_)]),
        };
        match fits {
            true => Ok(Self { attribute, operator, values }),
            false => Err(InvalidCondition("the operator does not compare with such values")),
        }
    }

    /// Returns whether the condition holds for a subject.
    pub fn holds(&self, subject: &Subject) -> bool {
        match subject.attribute(&self.attribute) {
            None => false,
            Some(Attribute::Text(text)) => self.holds_for_text(text),
            Some(Attribute::Bool(found)) => self.holds_for(|value| *value == Scalar::Bool(*found)),
            Some(Attribute::Number(number)) => self.holds_for_number(*number),
            Some(Attribute::Texts(texts)) => match self.operator {
                ConditionOperator::NotIn => texts.iter().all(|text| self.holds_for_text(text)),
                _ => texts.iter().any(|text| self.holds_for_text(text)),
            },
        }
    }

    /// Evaluates the operators for equality. The other operators never hold.
    fn holds_for(&self, equals: impl Fn(&Scalar) -> bool) -> bool {
        match self.operator {
            ConditionOperator::In => self.values.iter().any(equals),
            ConditionOperator::NotIn => !self.values.iter().any(equals),
            _ => false,
        }
    }

    fn holds_for_text(&self, text: &str) -> bool {
        let any = |fits: fn(&str, &str) -> bool| {
            self.values.iter().any(|value| matches!(value, Scalar::Text(value) if fits(text, value)))
        };
        match self.operator {
            ConditionOperator::StartsWith => any(|text, value| text.starts_with(value)),
            ConditionOperator::EndsWith => any(|text, value| text.ends_with(value)),
            ConditionOperator::Contains => any(|text, value| text.contains(value)),
            _ => self.holds_for(|value| matches!(value, Scalar::Text(value) if value == text)),
        }
    }

    fn holds_for_number(&self, number: f64) -> bool {
        let than = |fits: fn(f64, f64) -> bool| matches!(self.values[0], Scalar::Number(value) if fits(number, value));
        match self.operator {
            ConditionOperator::Less => than(|number, value| number < value),
            ConditionOperator::LessOrEqual => than(|number, value| number <= value),
            ConditionOperator::Greater => than(|number, value| number > value),
            ConditionOperator::GreaterOrEqual => than(|number, value| number >= value),
            // NaN equals no value, but `not_in` does not hold for it either.
            ConditionOperator::NotIn if number.is_nan() => false,
            _ => self.holds_for(|value| matches!(value, Scalar::Number(value) if *value == number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(operator: &str, values: &str, value: Attribute) -> bool {
        let json = format!(r#"{{"attribute": "a", "operator": "{operator}", "values": {values}}}"#);
        let condition: Condition = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
        condition.holds(&Subject::anonymous().with("a", value))
    }

    #[test]
    fn each_operator_holds_for_what_it_says() {
        let groups = || Attribute::Texts(vec!["red".into(), "blue".into()]);
        let cases: &[(&str, &str, Attribute, bool)] = &[
            ("in", r#"["x", "y"]"#, "y".into(), true),
            ("in", r#"["x", "y"]"#, "Y".into(), false),
            ("in", r#"["3"]"#, 3.into(), false),
            ("in", "[3, true]", 3.0.into(), true),
            ("in", "[3, true]", true.into(), true),
            ("in", "[3, true]", false.into(), false),
            ("in", r#"["blue"]"#, groups(), true),
            ("in", r#"["green"]"#, groups(), false),
            ("not_in", r#"["x"]"#, "y".into(), true),
            ("not_in", r#"["x"]"#, "x".into(), false),
            ("not_in", r#"["x"]"#, 3.into(), true),
            ("not_in", r#"["blue"]"#, groups(), false),
            ("not_in", r#"["green"]"#, groups(), true),
            ("not_in", "[3]", f64::NAN.into(), false),
            ("starts_with", r#"["ab", "x"]"#, "abc".into(), true),
            ("starts_with", r#"["bc"]"#, "abc".into(), false),
            ("ends_with", r#"["bc"]"#, "abc".into(), true),
            ("contains", r#"["b"]"#, "abc".into(), true),
            ("contains", r#"["3"]"#, 3.into(), false),
            ("less", "[3]", 2.into(), true),
            ("less", "[3]", 3.into(), false),
            ("less_or_equal", "[3]", 3.into(), true),
            ("greater", "[3]", 3.into(), false),
            ("greater", "[3]", 3.5.into(), true),
            ("greater_or_equal", "[3]", 3.into(), true),
            ("greater", "[3]", "4".into(), false),
            ("greater", "[3]", f64::NAN.into(), false),
        ];
        for (operator, values, value, expected) in cases {
            assert_eq!(holds(operator, values, value.clone()), *expected, "{operator} {values} {value:?}");
        }
    }

    #[test]
    fn an_attribute_that_is_missing_meets_no_condition() {
        for (operator, values) in
            [("in", r#"["x"]"#), ("not_in", r#"["x"]"#), ("less", "[3]"), ("contains", r#"["x"]"#)]
        {
            let json = format!(r#"{{"attribute": "a", "operator": "{operator}", "values": {values}}}"#);
            let condition: Condition = serde_json::from_str(&json).unwrap();
            assert!(!condition.holds(&Subject::anonymous().with("b", "x")), "{json}");
        }
    }

    #[test]
    fn a_condition_that_cannot_be_met_or_stored_is_refused() {
        let made = |attribute: &str, operator: &str, values: &str| {
            let json = format!(r#"{{"attribute": {attribute}, "operator": "{operator}", "values": {values}}}"#);
            serde_json::from_str::<Condition>(&json)
        };
        for (attribute, operator, values) in [
            (r#""a""#, "in", r#"["", "x", true, 1e15, -1e15]"#),
            (r#""a""#, "not_in", "[3]"),
            (r#""a""#, "starts_with", r#"["x", "y"]"#),
            (r#""a""#, "less", "[1e15]"),
        ] {
            assert!(made(attribute, operator, values).is_ok(), "{attribute} {operator} {values}");
        }
        for (attribute, operator, values, why) in [
            (r#""""#, "in", r#"["x"]"#, "no attribute"),
            (r#""a""#, "in", "[]", "no values"),
            (r#""a""#, "in", "[1, 1000000000000001]", "too large"),
            (r#""a""#, "less", "[-1000000000000001]", "too large"),
            (r#""a\u0000""#, "in", r#"["x"]"#, "NUL"),
            (r#""a""#, "in", r#"["x", "y\u0000"]"#, "NUL"),
            (r#""a""#, "starts_with", r#"["x", ""]"#, "does not compare"),
            (r#""a""#, "ends_with", r#"["x", 3]"#, "does not compare"),
            (r#""a""#, "contains", "[true]", "does not compare"),
            (r#""a""#, "less", "[1, 2]", "does not compare"),
            (r#""a""#, "less_or_equal", r#"["1"]"#, "does not compare"),
            (r#""a""#, "greater", "[true]", "does not compare"),
            (r#""a""#, "greater_or_equal", "[1, 2]", "does not compare"),
        ] {
            let error = made(attribute, operator, values).unwrap_err().to_string();
            assert!(error.contains(why), "{attribute} {operator} {values}: {error}");
        }
    }
}
