//! Lines of CSV (RFC 4180) with LF line ends. NULL is an empty field, an empty text is `""`.

/// Returns a line. `None` is NULL.
pub(crate) fn line<'v>(fields: impl Iterator<Item = Option<&'v str>>) -> String {
    let fields: Vec<String> = fields.map(|field| field.map(quoted).unwrap_or_default()).collect();
    fields.join(",") + "\n"
}

fn quoted(field: &str) -> String {
    let plain = !field.is_empty() && !field.contains(['"', ',', '\n', '\r']) && field.trim() == field;
    if plain { field.to_owned() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_differs_from_an_empty_text() {
        let fields = [Some("acme"), None, Some(""), Some("a \"b\",\nc"), Some(" x")];
        assert_eq!(line(fields.into_iter()), "acme,,\"\",\"a \"\"b\"\",\nc\",\" x\"\n");
    }
}
