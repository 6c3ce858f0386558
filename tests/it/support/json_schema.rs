//! Every line that the tests see from `--json` is checked against the published schema, docs/cli-json.schema.json.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};
use std::sync::OnceLock;

const SCHEMA: &str = include_str!("../../../docs/cli-json.schema.json");

/// The schema, and its place among the compiled ones. A key that it does not name is an error here: users are to ignore
/// such keys, and we are to document them.
fn compiled() -> &'static (Schemas, SchemaIndex) {
    static COMPILED: OnceLock<(Schemas, SchemaIndex)> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
        close(&mut schema);
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("cli-json", schema).unwrap();
        let index = compiler.compile("cli-json", &mut schemas).unwrap();
        (schemas, index)
    })
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("properties").is_some_and(Value::is_object) && map.get("type") == Some(&json!("object")) {
                map.insert("additionalProperties".into(), false.into());
            }
            map.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Why a line is none that the schema describes.
fn problem(line: &str) -> Option<String> {
    let value: Value = match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => return Some(error.to_string()),
    };
    let (schemas, index) = compiled();
    schemas.validate(&value, *index).err().map(|error| format!("{error:#}"))
}

/// Checks standard output, if it is that of `--json`.
#[track_caller]
pub(crate) fn check(stdout: &str) {
    if !stdout.starts_with("{\"") {
        return;
    }
    for line in stdout.lines() {
        if let Some(problem) = problem(line) {
            panic!("docs/cli-json.schema.json does not describe this line:\n{line}\n{problem}");
        }
    }
}

#[test]
fn what_the_schema_does_not_describe_is_found() {
    let good = json!({"event": "summary", "adopted": 1, "failed": 0, "exit": 0});
    assert_eq!(problem(&good.to_string()), None);
    let with = |key: &str, value: Value| {
        let mut bad = good.clone();
        bad[key] = value;
        bad
    };
    let mut short = good.clone();
    short.as_object_mut().unwrap().remove("failed");
    for bad in [with("more", json!(1)), with("adopted", json!("1")), with("event", json!("end")), short] {
        assert!(problem(&bad.to_string()).is_some(), "{bad}");
    }
    assert!(problem("text").is_some());
}
