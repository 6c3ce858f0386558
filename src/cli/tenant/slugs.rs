//! Reads slugs from the command line and from files.

use anyhow::{Context as _, Result};
use cgk::TenantSlug;
use std::{collections::BTreeSet, io::Read as _, path::Path};

use crate::cli::{
    exit::Exit,
    ui::report::{Refusal, display_path},
};

/// A line in a file of tenants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slug: TenantSlug,
    /// The text after the slug.
    pub(crate) name: Option<String>,
}

pub(crate) fn parsed<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Vec<TenantSlug>> {
    texts.into_iter().map(|text| Ok(text.as_ref().parse()?)).collect()
}

/// Returns the tenants of a file, one per line: a slug and, after a tab, comma or space, the display name. Empty lines,
/// lines that start with # and a first line `slug,name` are ignored. A slug that occurs twice counts once. `-` is
/// standard input.
pub(crate) fn of_file(file: &Path) -> Result<Vec<Entry>> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("could not read the tenants from standard input")?;
        text
    } else {
        std::fs::read_to_string(file).map_err(|error| Refusal::file("read the tenants of", file, &error))?
    };
    of_text(&text, &display_path(file))
}

fn of_text(text: &str, from: &str) -> Result<Vec<Entry>> {
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (slug, name) = line.split_once(['\t', ',', ' ']).unwrap_or((line, ""));
        let (slug, name) = (unquoted(slug), unquoted(name));
        if entries.is_empty() && problems.is_empty() && is_header(&slug, &name) {
            continue;
        }
        let name = Some(name).filter(|name| !name.is_empty());
        match slug.parse::<TenantSlug>() {
            Ok(slug) if seen.insert(slug.clone()) => entries.push(Entry { slug, name }),
            Ok(_) => {}
            Err(error) => problems.push(format!("line {}: {error}", number + 1)),
        }
    }
    let hint =
        "A slug has 1 to 48 characters, only a-z, 0-9 and _, and starts with a letter. Nothing was changed.".to_owned();
    if problems.is_empty() && !entries.is_empty() {
        return Ok(entries);
    }
    let message = match problems.as_slice() {
        [] => format!("{from} contains no tenants"),
        [only] => format!("{from}, {only}"),
        [first, ..] => format!("{} lines of {from} are invalid; {first}", problems.len()),
    };
    Err(Refusal { message, hint, exit: Exit::Usage }.into())
}

/// Returns a field of a CSV file without the quotes around it. Two quotes inside become one.
fn unquoted(field: &str) -> String {
    let field = field.trim();
    match field.strip_prefix('"').and_then(|field| field.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\"").trim().to_owned(),
        None => field.to_owned(),
    }
}

/// Whether the first line names the columns: `slug,name`.
fn is_header(slug: &str, name: &str) -> bool {
    ["slug", "tenant"].iter().any(|word| slug.eq_ignore_ascii_case(word)) && name.eq_ignore_ascii_case("name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_slug_and_perhaps_a_name() {
        let text = "\u{feff}# the first wave\r\nacme\tAcme Inc.\r\n\nglobex, Globex, Ltd.\ninitech\nacme\n";
        let entries: Vec<_> =
            of_text(text, "f").unwrap().into_iter().map(|entry| (entry.slug.to_string(), entry.name)).collect();
        let named = |slug: &str, name: Option<&str>| (slug.to_owned(), name.map(ToOwned::to_owned));
        let wanted = [named("acme", Some("Acme Inc.")), named("globex", Some("Globex, Ltd.")), named("initech", None)];
        assert_eq!(entries, wanted);
    }

    #[test]
    fn a_csv_file_may_have_a_header_and_quotes() {
        let text = "Slug,Name\nacme,\"Acme, \"\"the\"\" Inc.\"\n\"globex\",Globex\nslug,name\n";
        let entries: Vec<_> = of_text(text, "f").unwrap().into_iter().map(|e| (e.slug.to_string(), e.name)).collect();
        let wanted = [("acme", "Acme, \"the\" Inc."), ("globex", "Globex"), ("slug", "name")];
        assert_eq!(entries, wanted.map(|(slug, name)| (slug.to_owned(), Some(name.to_owned()))));
    }

    #[test]
    fn every_bad_line_counts_and_the_first_is_named() {
        let error = of_text("acme\nAcme\n1x\n", "fleet.txt").unwrap_err().to_string();
        assert!(error.starts_with("2 lines of fleet.txt are invalid; line 2: "), "{error}");
        assert_eq!(of_text("# none\n", "fleet.txt").unwrap_err().to_string(), "fleet.txt contains no tenants");
    }
}
