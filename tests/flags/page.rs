//! The examples of `docs/flags.md` do what the page says.

use crate::{platform::slug, stage::Stage};

const PAGE: &str = include_str!("../../docs/flags.md");

#[tokio::test(flavor = "multi_thread")]
async fn the_statements_of_the_page_run_where_it_says() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let mut run = 0;
    for part in PAGE.split("<!-- run: ").skip(1) {
        let (place, rest) = part.split_once(" -->\n```sql\n").unwrap();
        let block = rest.split("```").next().unwrap();
        for sql in block.split_inclusive(";\n").map(str::trim).filter(|sql| !sql.is_empty()) {
            let sql = sql.split_once("; --").map_or(sql, |(sql, _)| sql);
            let done = match place {
                "tenant" => stage.db.tenant(&acme).query(sql, &[]).await,
                "platform" => stage.db.platform().query(sql, &[]).await,
                other => panic!("{other}"),
            };
            done.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
            run += 1;
        }
    }
    // Every block of SQL is one of those.
    assert_eq!(PAGE.matches("```sql").count(), PAGE.matches("<!-- run: ").count());
    assert_eq!(run, 13);
    assert!(PAGE.contains("-- 70192: not yet"));
    assert_eq!(cgk::flags::bucket("new_checkout", "user-42"), 70192);
    assert_eq!(stage.count("select usage_of('seats')").await, 12);
    assert_eq!(stage.count("select count(*) from feature_rules").await, 3);
    assert_eq!(stage.count("select count(*) from public.usage_limits").await, 2);
}

/// What a project gets beside the migrations.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_and_the_test_of_the_template_run() {
    let stage = Stage::set().await;
    let test = include_str!("../../templates/flags/tests/flags.sql");
    for text in [include_str!("../../templates/flags/example/flags.sql"), test] {
        let (_, rest) = text.split_once("begin;\n").unwrap();
        stage.run("begin").await;
        stage.run(rest).await;
    }
    for table in ["features", "usage_keys", "flag_audit_events where resource_kind = 'feature'"] {
        assert_eq!(stage.count(&format!("select count(*) from {table}")).await, 0, "{table}");
    }
    // The control: without a trigger, the test fails.
    stage.run("drop trigger features_keep_key on features").await;
    stage.run("begin").await;
    assert!(stage.refused_all(test.split_once("begin;\n").unwrap().1).await.contains("a key was changed"));
}
