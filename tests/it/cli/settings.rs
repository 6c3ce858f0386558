//! `cgk config:show`.

use crate::support::cgk::Shell;
use serde_json::Value;

/// The settings that are shown: name, value and origin.
fn settings(shell: &Shell, arguments: &[&str]) -> Vec<(String, Option<String>, String)> {
    let answer = shell.run(arguments);
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""), "{answer:?}");
    let shown: Value = serde_json::from_str(&answer.stdout).unwrap();
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let settings = shown["settings"].as_array().unwrap().iter();
    settings.map(|of| (text(&of["name"]).unwrap(), text(&of["value"]), text(&of["origin"]).unwrap())).collect()
}

/// No server listens at this address.
const URL: &str = "postgresql://ada:open-sesame@127.0.0.1:1/shop";

#[test]
fn every_setting_of_the_reference_is_shown() {
    let reference = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md")).unwrap();
    let (_, section) = reference.split_once("\n## Settings\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let code = |cell: &str| cell.split('`').nth(1).map(ToOwned::to_owned);
    let mut wanted = Vec::new();
    for row in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let key = code(cells[4]).or_else(|| Some(code(cells[3])?.strip_prefix("CGK_")?.to_lowercase()));
        wanted.push(key.unwrap_or_else(|| panic!("neither key nor variable: {row}")));
    }
    assert!(wanted.len() > 20, "{wanted:?}");
    let shell = Shell::new().set("DATABASE_URL", URL);
    let shown: Vec<String> = settings(&shell, &["config:show", "--json"]).into_iter().map(|(name, ..)| name).collect();
    for name in wanted {
        // A file with a URL is where the URL comes from.
        let name = name.trim_end_matches("_file");
        assert!(shown.iter().any(|shown| shown == name), "{name} is not among {shown:?}");
    }
}

#[test]
fn the_source_of_each_value_is_shown_and_no_secret() {
    let shell = Shell::new().set("DATABASE_URL", URL).set("CGK_SECRET_KEYS", "k1:bm90IGEga2V5");
    shell.write("cgk.toml", "[pool]\nsize_max = 3\nwait = \"4s\"\n");
    shell.write(".env", "CGK_POOL_WAIT=5s\n");
    let arguments = ["config:show", "--lock-timeout", "700ms", "--json"];
    let shown = settings(&shell, &arguments);
    let of = |name: &str| {
        let (_, value, origin) = shown.iter().find(|(of, ..)| of == name).unwrap();
        format!(
            "{} from {}",
            value.as_deref().unwrap_or("none"),
            origin.replace(&*shell.folder().to_string_lossy(), "")
        )
    };
    assert_eq!(of("database_url"), "postgresql://ada:***@127.0.0.1:1/shop from environment variable DATABASE_URL");
    assert_eq!(of("pool.size_max"), "3 from /cgk.toml: pool.size_max");
    assert_eq!(of("pool.wait"), "5s from CGK_POOL_WAIT in /.env");
    assert_eq!(of("session.lock_timeout"), "700ms from flag --lock-timeout");
    assert_eq!(of("secret_keys"), "*** from environment variable CGK_SECRET_KEYS");
    assert_eq!(of("direct_url"), "none from default");

    let changed = settings(&shell, &["config:show", "--lock-timeout", "700ms", "--changed", "--json"]);
    let expected: Vec<_> = shown.iter().filter(|(.., origin)| origin != "default").cloned().collect();
    assert_eq!(changed, expected);
    assert!(changed.len() < shown.len());

    let table = shell.run(&["config:show", "-v"]);
    assert_eq!(table.code, 0, "{table:?}");
    for text in [&table.stdout, &table.stderr, &shell.run(&arguments).stdout] {
        assert!(!text.contains("open-sesame") && !text.contains("bm90"), "{text}");
    }
    assert!(table.stdout.starts_with("SETTING ") && table.stdout.contains("pool.wait"), "{}", table.stdout);
}

#[test]
fn what_cannot_be_used_is_an_error_that_names_it() {
    let answer = Shell::new().set("DATABASE_URL", URL).set("CGK_POOL_SIZE_MAX", "many").run(&["config:show"]);
    assert!(answer.code == 2 && answer.stderr.contains("CGK_POOL_SIZE_MAX"), "{answer:?}");
    let answer = Shell::new().run(&["config:show"]);
    assert!(answer.code == 2 && answer.stderr.contains("DATABASE_URL"), "{answer:?}");
}
