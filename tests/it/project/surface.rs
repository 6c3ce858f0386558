//! The public items of the library, listed, so that a change of the interface is seen in review.
//!
//! `INSTA_UPDATE=always cargo test --test it project::surface` writes the list anew.

use regex::Regex;
use std::{fs, path::Path};

fn files(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "cli" && name != "tests") {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("main.rs") {
            found.push(fs::read_to_string(&path).unwrap());
        }
    }
}

/// The public items of a file, each in a line with what it belongs to.
fn surface(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let item = Regex::new(r"^pub ((const |async |unsafe )*fn|struct|enum|trait|type|const|static|mod|use) ").unwrap();
    let field = Regex::new(r"^pub [a-z_0-9]+: ").unwrap();
    let (mut owner, mut variants_at, mut found) = (String::new(), None, Vec::new());
    for (number, line) in code.iter().enumerate() {
        let (indent, trimmed) = (line.len() - line.trim_start().len(), line.trim());
        if indent == 0 && (trimmed == "}" || trimmed.ends_with(';')) {
            (owner, variants_at) = (String::new(), None);
        }
        let header = |text: &str| text.split('{').next().unwrap().split(" where").next().unwrap().trim().to_owned();
        if trimmed.starts_with("impl") {
            owner = header(trimmed);
        }
        if item.is_match(trimmed) {
            // To the end of the signature, which may stand in several lines.
            let whole: Vec<&str> = code[number..].iter().map(|line| line.trim()).collect();
            let mut signature = String::new();
            for part in whole {
                signature.push_str(part);
                if part.ends_with('{') && !trimmed.starts_with("pub use") || part.ends_with(';') || part.ends_with('}')
                {
                    break;
                }
                signature.push(' ');
            }
            let signature = match trimmed.starts_with("pub use") {
                true => signature,
                false => header(&signature),
            };
            found.push(if owner.is_empty() { signature.clone() } else { format!("{owner} :: {signature}") });
            if trimmed.starts_with("pub struct") || trimmed.starts_with("pub enum") || trimmed.starts_with("pub trait")
            {
                owner = signature;
                variants_at = trimmed.starts_with("pub enum").then_some(indent + 4);
            }
        } else if field.is_match(trimmed) || trimmed.starts_with("fn ") && owner.starts_with("pub trait") {
            found.push(format!("{owner} :: {}", header(trimmed).trim_end_matches([',', ';'])));
        } else if Some(indent) == variants_at && trimmed.starts_with(|c: char| c.is_ascii_uppercase()) {
            found.push(format!("{owner} :: {}", header(trimmed).trim_end_matches(',')));
        }
    }
    found
}

#[test]
fn the_public_items_are_those_that_were_reviewed() {
    let mut texts = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
    let mut found: Vec<String> = texts.iter().flat_map(|text| surface(text)).collect();
    found.sort();
    found.dedup();
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn the_listing_sees_every_form() {
    let text = "pub struct A {\n    pub a: u8,\n    b: u8,\n}\n\nimpl A {\n    pub async fn f(\n        &self,\n        n: u8,\n    ) -> u8 {\n        0\n    }\n    pub(crate) fn g() {}\n}\n\npub enum E {\n    One,\n    Two { n: u8 },\n}\npub use x::{\n    Y,\n};\npub trait T {\n    fn t(&self);\n}\n#[cfg(test)]\nmod tests {\n    pub fn no() {}\n}\n";
    assert_eq!(
        surface(text),
        [
            "pub struct A",
            "pub struct A :: pub a: u8",
            "impl A :: pub async fn f( &self, n: u8, ) -> u8",
            "pub enum E",
            "pub enum E :: One",
            "pub enum E :: Two",
            "pub use x::{ Y, };",
            "pub trait T",
            "pub trait T :: fn t(&self)",
        ]
    );
}
