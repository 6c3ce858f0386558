//! The texts of errors, where they are put together from parts that stand in different files.

use regex::Regex;
use std::{fs, path::Path};

/// What stands behind "could not …" and "while trying to …": the texts of every field `doing` and call of `while_doing`.
fn doings(source: &str) -> Vec<String> {
    let text = Regex::new(
        r#"(?:\bwhile_doing\(|\bdoing(?::|\s*=)|\bdoing\()\s*(?:\|\|\s*while_doing\()?(?:format!\(\s*)?"([^"]*)"#,
    )
    .unwrap();
    text.captures_iter(source).map(|found| found[1].to_owned()).collect()
}

/// Whether a text goes on from "could not": it begins with a verb in its plain form.
fn is_verb_first(text: &str) -> bool {
    let first = text.split(' ').next().unwrap_or_default();
    first.chars().all(|c| c.is_ascii_lowercase())
        && !["ing", "ed", "tion", "s"].iter().any(|end| first.ends_with(end) && !KNOWN.contains(&first))
}

/// Plain verbs with such an end.
const KNOWN: [&str; 4] = ["ping", "read", "address", "pass"];

#[test]
fn every_could_not_goes_on_with_a_plain_verb() {
    // The control: what was wrong once is found.
    let once = r#"let doing = format!("running a statement of {}", self.scope); Lost { doing: "listening".into() }"#;
    assert_eq!(doings(once), ["running a statement of {}", "listening"]);
    assert!(doings(once).iter().all(|text| !is_verb_first(text)));
    let called = "map_err(while_doing(format!(\n    \"reading {x}\"))); let doing = || while_doing(\"write it\");";
    assert_eq!(doings(called), ["reading {x}", "write it"]);

    let (mut texts, mut wrong) = (0, Vec::new());
    each_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, source| {
        for text in doings(source) {
            texts += 1;
            // What stands in the first place is put there from another text, which is looked at where it stands.
            if !text.starts_with('{') && !is_verb_first(&text) {
                wrong.push(format!("{}: could not {text}", path.display()));
            }
        }
    });
    assert!(texts > 80, "only {texts} texts were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn each_source(folder: &Path, look: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_source(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            look(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
