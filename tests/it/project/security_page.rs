//! `docs/security.md` promises nothing that no test shows: every test that it names is there, and every row names one.

use regex::Regex;

const PAGE: &str = include_str!("../../../docs/security.md");

#[test]
fn every_test_that_the_page_names_is_there() {
    let name = Regex::new(r"`((?:[a-z_]+::)*[a-z_]+)::([a-z0-9_]+)`").unwrap();
    let mut named = 0;
    for found in name.captures_iter(PAGE).filter(|found| !found[1].ends_with("::module")) {
        let (module, test) = (found[1].replace("::", "/"), &found[2]);
        let is_target = ["platform/", "pooler/"].iter().any(|target| module.starts_with(target));
        let folder = if is_target { "tests" } else { "tests/it" };
        let file = format!("{}/{folder}/{module}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{module}::{test}: there is no {file}"));
        let marked =
            Regex::new(&format!(r"#\[(tokio::)?test[^\n]*\](\n#\[[^\n]*\])*\n(async )?fn {test}\(\)")).unwrap();
        assert!(marked.is_match(&text), "{module}::{test} is no test");
        named += 1;
    }
    assert!(named > 25, "{named}");
}

/// A row of a table with a column for tests names one, or says in brackets why there is none.
#[test]
fn every_promise_names_its_test() {
    let mut rows = 0;
    let mut has_tests = false;
    for line in PAGE.lines() {
        match line.strip_prefix('|') {
            None => has_tests = false,
            Some(_) if line.ends_with("| Test |") => has_tests = true,
            Some(cells) if has_tests && !cells.starts_with("---") => {
                let last = line.trim_end_matches('|').rsplit('|').next().unwrap().trim();
                assert!(last.contains("::") || last.starts_with('('), "{line}");
                rows += 1;
            }
            Some(_) => {}
        }
    }
    assert!(rows > 20, "{rows}");
}

/// `tenant_injection::every_injection_has_its_verdict` shows the verdicts; the page counts them.
#[test]
fn the_page_counts_the_injections_as_they_are() {
    let all = crate::tenancy::injection::INJECTIONS;
    assert!(PAGE.contains(&format!("Of {} injections", all.len())));
    for (column, name) in ["role, as it is", "role, hardened", "path, as it is", "path, hardened"].iter().enumerate() {
        let mut counts = [0; 4];
        all.iter().for_each(|(_, _, verdicts)| counts[verdicts[column] as usize] += 1);
        let [denied, harmless, astray, reached] = counts;
        let row = format!("| {name} | {denied} | {harmless} | {astray} | {reached} |");
        assert!(PAGE.contains(&row), "{row}");
    }
}
