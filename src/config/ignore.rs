//! `[drift] ignore` of `cgk.toml`: known and intended differences.

use serde::Deserialize;

/// Differences that a comparison counts and shows as ignored. The texts are patterns: `*` matches any characters, `?`
/// matches one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a rule in braces, with object and reason")]
#[non_exhaustive]
pub struct IgnoreRule {
    /// The object, as it is named in a difference: `orders`, `orders.note`, `touch()`. With `*` or `?` it stands for
    /// several, and does not accept a difference that gives rights to others than the tenant's role.
    pub object: String,
    /// Its kind: `table`, `column`, `role`. `None`: every kind.
    #[serde(default)]
    pub kind: Option<String>,
    /// The schema: `public`, `tenant_*`. `None`: every schema.
    #[serde(default)]
    pub schema: Option<String>,
    /// Why the difference is intended. Must not be empty.
    pub reason: String,
}

impl IgnoreRule {
    /// Creates a rule for objects of every kind in every schema.
    pub fn new(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { object: object.into(), kind: None, schema: None, reason: reason.into() }
    }

    /// Returns whether the rule names one object, without a wildcard. Only such a rule accepts a difference that gives
    /// rights to others than the tenant's role.
    pub(crate) fn names_one_object(&self) -> bool {
        !self.object.contains(['*', '?'])
    }

    /// Returns whether the rule applies to this object.
    pub fn matches(&self, schema: &str, kind: &str, object: &str) -> bool {
        let fits = |pattern: &Option<String>, text| pattern.as_ref().is_none_or(|pattern| is_match(pattern, text));
        is_match(&self.object, object) && fits(&self.kind, kind) && fits(&self.schema, schema)
    }
}

/// Whether the whole text matches a pattern.
fn is_match(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // The position of the last star, and how much of the text it has matched.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("orders", "orders", true),
            ("orders", "orders_old", false),
            ("orders*", "orders_old", true),
            ("*_old", "orders_old_old", true),
            ("part_????", "part_2026", true),
            ("part_????", "part_20266", false),
            ("*", "", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern} {text}");
        }
    }
}
