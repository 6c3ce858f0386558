//! The search path, which defines the meaning of an unqualified name: the current schema, the shared one, and the
//! schemas of extensions.

use crate::ident::{Ident, SchemaName};

/// The additional schemas of every search path, after the tenant's and the shared one. They contain extensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SearchPath {
    further: Vec<Ident>,
}

impl SearchPath {
    pub(crate) fn with(further: Vec<Ident>) -> Self {
        Self { further }
    }

    pub(crate) fn further(&self) -> &[Ident] {
        &self.further
    }

    /// Returns the value of `search_path` for work in a schema. `pg_temp` is last and explicit. Without it, it would be
    /// searched first, and a temporary table would hide the tenant's.
    pub(crate) fn of(&self, schema: &SchemaName) -> String {
        let shared = SchemaName::public();
        let own = (*schema != shared).then(|| schema.as_str().to_owned());
        let further = self.further.iter().map(Ident::quoted);
        let names: Vec<String> =
            own.into_iter().chain([shared.as_str().to_owned()]).chain(further).chain(["pg_temp".to_owned()]).collect();
        names.join(", ")
    }
}

/// Parses a list of names as the server parses `search_path`: separated by commas, lower case unless quoted. Returns
/// `None` if it is not such a list.
pub(crate) fn parse_list(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim();
    let mut names = Vec::new();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let name;
        if let Some(quoted) = rest.strip_prefix('"') {
            (name, rest) = parse_quoted(quoted)?;
        } else {
            let end = rest.find([',', '"']).unwrap_or(rest.len());
            name = rest[..end].trim_end().to_ascii_lowercase();
            rest = &rest[end..];
            if name.is_empty() || name.contains(char::is_whitespace) {
                return None;
            }
        }
        names.push(name);
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

/// Reads up to the closing quote. Two quotes represent one.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => (name, rest) = (name + "\"", more),
            None => return Some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_schemas_stand_between_public_and_pg_temp() {
        let slug = "acme".parse().unwrap();
        let path = SearchPath::with(vec![Ident::new("extensions").unwrap(), Ident::new("a\"B").unwrap()]);
        assert_eq!(path.of(&SchemaName::of_tenant(&slug)), "tenant_acme, public, \"extensions\", \"a\"\"B\", pg_temp");
        assert_eq!(path.of(&SchemaName::public()), "public, \"extensions\", \"a\"\"B\", pg_temp");
        assert_eq!(SearchPath::default().of(&SchemaName::of_tenant(&slug)), "tenant_acme, public, pg_temp");
    }

    #[test]
    fn lists_are_read_as_the_server_reads_them() {
        let read = |text: &str| parse_list(text).map(|names| names.join("|"));
        for (text, names) in [
            ("", Some("")),
            ("public", Some("public")),
            ("\"$user\", public, extensions", Some("$user|public|extensions")),
            (" Public ,\"Ext\"\"x\",  b ", Some("public|Ext\"x|b")),
            ("\"\"", Some("")),
            // The server folds ASCII letters only: the Kelvin sign is not a k.
            ("\u{212A}X", Some("\u{212A}x")),
            ("a b", None),
            ("a,", None),
            (",a", None),
            ("\"open", None),
            ("a\"b\"", None),
        ] {
            assert_eq!(read(text).as_deref(), names, "{text}");
        }
    }
}
