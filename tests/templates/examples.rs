//! The Rust examples of the templates: they run on a real server, and `cgk init` writes them where Cargo can build them.

use crate::stage::{Folder, Stage, slug};
use cgk::templates;
use std::{fs, path::Path};

/// Includes an example as users have it. rustfmt does not look into a macro: the examples have the format of its defaults.
macro_rules! example {
    ($name:ident, $path:literal) => {
        #[path = $path]
        #[expect(dead_code, unreachable_pub, clippy::print_stdout, reason = "a program of its own, which prints")]
        mod $name;
    };
}

example!(analytics, "../../templates/analytics/example/analytics.rs");
example!(flags, "../../templates/flags/example/flags.rs");
example!(shop, "../../templates/shop/example/shop.rs");
example!(workspace, "../../templates/workspace/example/workspace.rs");

const TEMPLATES: [&str; 4] = ["analytics", "flags", "shop", "workspace"];

#[tokio::test]
async fn analytics_runs_in_its_tenant() {
    let stage = Stage::with(&["analytics"]).await;
    let (acme, ada) = (slug("acme"), "0195f0a0-0000-7000-8000-000000000001".parse().unwrap());
    let (columns, alert) = (analytics::columns().unwrap(), analytics::alert().unwrap());
    for _ in 0..2 {
        analytics::add_alert(&stage.db, &acme, ada, &columns, &alert).await.unwrap();
        assert_eq!(analytics::run_due(&stage.db, &acme, 93.5).await.unwrap(), ["Revenue is low"]);
        // Claimed, and so not due again.
        assert!(analytics::run_due(&stage.db, &acme, 93.5).await.unwrap().is_empty());
    }
    analytics::add_alert(&stage.db, &acme, ada, &columns, &alert).await.unwrap();
    assert!(analytics::run_due(&stage.db, &acme, 100.0).await.unwrap().is_empty());
    assert_eq!(stage.one::<i64>("acme", "select count(*) from datasets").await, 1);
    assert_eq!(stage.one::<i64>("globex", "select count(*) from datasets").await, 0);
}

#[tokio::test]
async fn flags_runs_in_its_tenant() {
    let stage = Stage::with(&["flags"]).await;
    let acme = slug("acme");
    let service = flags::Service::new(&stage.db);
    for _ in 0..2 {
        flags::add_feature(&stage.db, &acme).await.unwrap();
        for (request, user) in [("request-1", "user-1"), ("request-2", "user-2")] {
            let is_fast = cgk::flags::bucket("fast_search", user) < 50 * 1000;
            let search = service.search(&acme, request, user).await.unwrap();
            assert_eq!(search, if is_fast { "fast search" } else { "search" }, "{user}");
        }
    }
    assert_eq!(stage.one::<i64>("acme", "select usage_of('api_calls')").await, 2);
    assert_eq!(stage.one::<i64>("globex", "select usage_of('api_calls')").await, 0);
    // The control: globex has no such feature.
    let error = service.search(&slug("globex"), "request-1", "user-1").await.unwrap_err();
    assert!(matches!(error, cgk::flags::FlagsError::NoSuchFeature { .. }), "{error:?}");
}

#[tokio::test]
async fn shop_runs_in_its_tenant() {
    let stage = Stage::with(&["shop"]).await;
    let acme = slug("acme");
    for orders in 1..=2 {
        shop::add_product(&stage.db, &acme, "mug", 1200).await.unwrap();
        shop::place_order(&stage.db, &acme, "mug", 2).await.unwrap();
        let listed = shop::orders(&stage.db, &acme).await.unwrap();
        assert_eq!(listed.len(), orders);
        assert_eq!((listed[0].number.as_str(), listed[0].total), (format!("#{}", 1000 + orders).as_str(), 2400));
    }
    assert_eq!(stage.one::<i64>("acme", "select sum(quantity) from order_items").await, 4);
    assert!(shop::orders(&stage.db, &slug("globex")).await.unwrap().is_empty());
    // An order of a product that does not exist leaves nothing behind.
    shop::place_order(&stage.db, &acme, "cup", 1).await.unwrap_err();
    assert_eq!(shop::orders(&stage.db, &acme).await.unwrap().len(), 2);
}

#[tokio::test]
async fn workspace_runs_in_its_tenant() {
    let stage = Stage::with(&["workspace"]).await;
    let acme = slug("acme");
    for commit in ["f00d", "cafe"] {
        workspace::add_build(&stage.db, &acme, commit).await.unwrap();
        assert!(workspace::work(&stage.db, &slug("globex")).await.unwrap().is_empty());
        assert_eq!(workspace::work(&stage.db, &acme).await.unwrap(), [commit]);
    }
    let done = "select count(*) from jobs where status = 'succeeded' and result ->> 'artifact' like '%.tar'";
    assert_eq!(stage.one::<i64>("acme", done).await, 2);
    assert_eq!(stage.one::<i64>("acme", "select count(*) from projects").await, 1);
}

/// The examples that `cgk init` writes into a package with this manifest.
fn written(manifest: &str) -> Vec<String> {
    let folder = Folder::new();
    folder.write("Cargo.toml", manifest);
    folder.add(&TEMPLATES);
    let files = folder.files().into_keys().filter_map(|file| file.strip_prefix("examples/").map(str::to_owned));
    files.filter(|file| file.ends_with(".rs")).collect()
}

#[test]
fn an_example_is_written_where_cargo_can_build_it() {
    let all: Vec<String> = TEMPLATES.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(written("[dependencies]\ncgk = \"0.1\"\ntokio = \"1\"\n"), all);
    assert_eq!(written("[dev-dependencies]\ncgk.workspace = true\ntokio.workspace = true\n"), all);
    let features = "features = [\"platform\", \"flags\"]";
    let some =
        format!("[dependencies]\ncgk = {{ git = \"x\", default-features = false, {features} }}\ntokio = \"1\"\n");
    assert_eq!(written(&some), ["flags.rs", "shop.rs", "workspace.rs"]);
    for none in ["[dependencies]\ncgk = \"0.1\"\n", "[dependencies]\ntokio = \"1\"\n", "[dependencies", ""] {
        assert!(written(none).is_empty(), "{none}");
    }
}

/// A package may come after the template: naming the template again adds what is missing, and no migration.
#[test]
fn an_example_can_be_added_later() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    folder.write("Cargo.toml", "[dependencies]\ncgk = \"0.1\"\ntokio = \"1\"\n");
    folder.write("examples/cgk/workspace.sql", "-- mine\n");
    assert!(!folder.plan(&Default::default()).unwrap().gitignore_lacks_env());
    folder.write(".gitignore", "/target\n");
    assert!(folder.plan(&Default::default()).unwrap().gitignore_lacks_env());
    let mut expected = folder.files();
    folder.add(&[]);
    assert_eq!(folder.files(), expected);
    folder.add(&["workspace"]);
    let example = include_str!("../../templates/workspace/example/workspace.rs");
    expected.insert("examples/workspace.rs".to_owned(), example.to_owned());
    assert_eq!(folder.files(), expected);
}

/// What a template's description shows is in its example.
#[test]
fn the_descriptions_show_the_examples() {
    let lines = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    for name in TEMPLATES {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(name);
        let example = fs::read_to_string(home.join("example").join(format!("{name}.rs"))).unwrap();
        let readme = fs::read_to_string(home.join("README.md")).unwrap();
        let blocks: Vec<&str> =
            readme.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert_eq!(blocks.len(), 1, "{name}");
        assert!(lines(&example).contains(&lines(blocks[0])), "{name}: {}", blocks[0]);
        assert!(readme.contains(&format!("cargo run --example {name}")), "{name}");
    }
}

/// What people read in a terminal fits into 80 columns.
#[test]
fn the_written_texts_are_not_wide() {
    let folder = Folder::new();
    let names: Vec<String> = templates::all().iter().map(|template| template.name().to_owned()).collect();
    folder.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut looked_at = 0;
    for (file, text) in folder.files() {
        let is_sql = [".sql", "accepted.txt"].iter().any(|end| file.ends_with(end));
        for line in text.lines().filter(|_| !is_sql) {
            assert!(line.chars().count() <= 80, "{file}: {line}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 200, "{looked_at}");
}
