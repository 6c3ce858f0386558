//! Tests of poolers in front of the server, and of the address for DDL.

use super::Scratch;
use crate::config::{Config, ConfigErrorKind, Origin, Pooling};

#[test]
fn ddl_over_a_transaction_pooler_names_the_direct_host() {
    for (url, sign, direct) in [
        (
            "postgres://u:pw@ep-x-1-pooler.eu.aws.neon.tech/db",
            "host ep-x-1-pooler.eu.aws.neon.tech",
            "the host ep-x-1.eu.aws.neon.tech:5432 ",
        ),
        (
            "postgres://postgres.abc:pw@aws-0-eu.pooler.supabase.com:6543/postgres",
            "host aws-0-eu.pooler.supabase.com",
            "db.abc.supabase.co:5432 and the user postgres ",
        ),
        ("postgres://u:pw@db.abc.supabase.co:6543/postgres", "port 6543", "db.abc.supabase.co:5432 "),
        ("postgres://u:pw@bouncer.example:6432/db", "port 6432", "bouncer.example:5432 "),
        ("postgres://u:pw@h.example/db?pgbouncer=true", "pgbouncer=true", "host and port of the server itself"),
        ("host=/tmp port=6432 dbname=db", "port 6432", "/tmp and the server's own port"),
    ] {
        let error = Config::from_url(url).unwrap().for_ddl().unwrap_err();
        assert_eq!(error.kind(), ConfigErrorKind::Pooler, "{url}");
        assert!(error.to_string().contains(sign), "{url}: {error}");
        assert!(
            error.advice().contains(direct) && error.advice().contains("CGK_DIRECT_URL"),
            "{url}: {}",
            error.advice()
        );
    }
}

#[test]
fn ddl_goes_to_the_address_itself_where_there_is_no_pooler() {
    for url in [
        "postgres://u:pw@ep-x-1.eu.aws.neon.tech/db",
        "postgres://postgres.abc:pw@aws-0-eu.pooler.supabase.com:5432/postgres",
        "postgres://u:pw@pooler.example/db",
    ] {
        let config = Config::from_url(url).unwrap();
        assert_eq!(config.for_ddl().unwrap().target(), config.target());
    }
    let config = Config::from_url("postgres://u@bouncer.example:6432/db").unwrap();
    assert!(config.with_pooling(Pooling::Direct).for_ddl().is_ok());
}

#[test]
fn ddl_goes_to_the_direct_url() {
    let scratch = Scratch::new(&[]);
    let config = scratch
        .load(&[
            ("DATABASE_URL", "postgres://u:pw@ep-x-pooler.neon.tech/db"),
            ("CGK_DIRECT_URL", "postgres://u:pw@ep-x.neon.tech/db"),
            ("CGK_POOLED", "1"),
        ])
        .unwrap()
        .with_application_name("web");
    assert_eq!(config.pooling(), Pooling::Transaction);
    let ddl = config.for_ddl().unwrap();
    assert_eq!(ddl.target().to_string(), "postgresql://u@ep-x.neon.tech:5432/db");
    assert_eq!(ddl.pooling(), Pooling::Direct);
    assert_eq!(ddl.pg().get_application_name(), Some("web"));
    let database_url = ddl.settings().into_iter().find(|setting| setting.name == "database_url").unwrap();
    assert_eq!(database_url.origin, Origin::Environment("CGK_DIRECT_URL"));
    assert!(ddl.for_ddl().is_ok());
    let other = config.with_database("other").for_ddl().unwrap();
    assert_eq!(other.target().to_string(), "postgresql://u@ep-x.neon.tech:5432/other");
}

#[test]
fn the_direct_url_must_be_direct() {
    let scratch = Scratch::new(&[]);
    let load = |direct| {
        scratch.load(&[("DATABASE_URL", "postgres://u:pw@ep-x-pooler.neon.tech/db"), ("CGK_DIRECT_URL", direct)])
    };
    let error = load("postgres://u:pw@ep-x-pooler.neon.tech/db").unwrap_err();
    assert_eq!((error.setting(), error.kind()), ("direct_url", ConfigErrorKind::Pooler));
    assert!(load("postgres://u:pw@localhost:6432/db").unwrap().for_ddl().is_ok());
}

#[test]
fn what_is_said_about_pooling_counts_more_than_looks() {
    let scratch = Scratch::new(&[]);
    let url = ("DATABASE_URL", "postgres://u:pw@h.example:6432/db");
    assert_eq!(scratch.load(&[url]).unwrap().notices().len(), 1);
    let declared = scratch.load(&[url, ("CGK_POOLED", "true")]).unwrap();
    assert_eq!((declared.pooling(), declared.notices().len()), (Pooling::Transaction, 0));
    assert!(declared.for_ddl().is_err());
    let denied = scratch.load(&[url, ("CGK_POOLED", "0")]).unwrap();
    assert_eq!((denied.pooling(), denied.notices().len()), (Pooling::Direct, 0));
    assert!(denied.for_ddl().is_ok());
}
