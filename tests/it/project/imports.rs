//! Reads what a source file imports.

/// Every path that begins with `crate`, `self` or `super`, those of a group one by one.
pub(super) fn paths(code: &str) -> Vec<Vec<String>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for keyword in ["crate::", "self::", "super::"] {
        for (at, _) in code.match_indices(keyword) {
            let begins = !code[..at].ends_with(|c: char| is_name(c) || c == ':');
            if begins {
                read_tree(&code[at..], &mut Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Reads `a::b::{c, d::e}` behind a prefix; gives what is left of the text.
fn read_tree<'a>(text: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if rest.is_empty() || rest.starts_with('}') {
                return rest.get(1..).unwrap_or_default();
            }
            rest = read_tree(rest, prefix, found);
            // `as name` and the comma
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            rest = rest[end..].strip_prefix(',').unwrap_or(&rest[end..]);
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    prefix.push(name.to_owned());
    let rest = match rest.strip_prefix("::") {
        Some(rest) if rest.trim_start().starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '{') => {
            read_tree(rest, prefix, found)
        }
        _ => {
            found.push(prefix.clone());
            rest
        }
    };
    prefix.pop();
    rest
}
