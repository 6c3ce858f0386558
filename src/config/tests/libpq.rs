//! Tests of the variables of libpq and its password file.

use super::Scratch;
use crate::config::{Config, Origin};

const EMPTY_URL: (&str, &str) = ("DATABASE_URL", "postgres:///?sslmode=disable");

fn target(config: &Config) -> String {
    config.target().to_string()
}

fn password(config: &Config) -> Option<&str> {
    config.pg().get_password().map(|password| std::str::from_utf8(password).unwrap())
}

#[test]
fn variables_fill_what_the_url_leaves_open() {
    let scratch = Scratch::new(&[]);
    let all = [
        ("PGHOST", "localhost"),
        ("PGPORT", "6000"),
        ("PGUSER", "cgk"),
        ("PGPASSWORD", "from_variable"),
        ("PGDATABASE", "shop"),
    ];
    let with = |url: &'static str| {
        let mut variables = all.to_vec();
        variables.push(("DATABASE_URL", url));
        scratch.load(&variables).unwrap()
    };
    let config = with("postgres:///");
    assert_eq!(target(&config), "postgresql://cgk@localhost:6000/shop");
    assert_eq!(password(&config), Some("from_variable"));

    // The values in the URL have precedence.
    let config = with("postgres://app:own@127.0.0.1:5555/other");
    assert_eq!(target(&config), "postgresql://app@127.0.0.1:5555/other");
    assert_eq!(password(&config), Some("own"));
}

#[test]
fn without_a_url_the_database_must_be_named() {
    let scratch = Scratch::new(&[]);
    assert!(scratch.load(&[("PGHOST", "localhost"), ("PGUSER", "cgk")]).unwrap_err().is_missing_url());
    let config = scratch.load(&[("PGHOST", "localhost"), ("PGUSER", "cgk"), ("PGDATABASE", "shop")]).unwrap();
    assert_eq!(target(&config), "postgresql://cgk@localhost:5432/shop");
    let origin = config.settings().into_iter().find(|setting| setting.name == "database_url").unwrap().origin;
    assert_eq!(origin, Origin::Environment("PGDATABASE"));
}

#[test]
fn from_url_reads_no_environment() {
    assert!(Config::from_url("postgres:///").is_err());
}

#[test]
fn a_remote_host_from_a_variable_is_verified_like_one_in_the_url() {
    let scratch = Scratch::new(&[]);
    let refused = scratch.load(&[("PGHOST", "db.example.com"), ("PGDATABASE", "shop"), ("PGSSLMODE", "disable")]);
    assert!(refused.is_err(), "PGSSLMODE=disable to another machine");
    let config = scratch.load(&[("PGHOST", "db.example.com"), ("PGDATABASE", "shop")]).unwrap();
    assert!(matches!(config.tls(), crate::config::TlsMode::Verify { .. }));
}

#[cfg(unix)]
#[test]
fn the_password_file_is_read_as_libpq_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new(&[("pass", "localhost:5432:shop:other:no\n*:*:shop:cgk:from_file\n")]);
    let path = scratch.path().join("pass");
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let url = ("DATABASE_URL", "postgres://cgk@localhost/shop");
    let named = ("PGPASSFILE", "pass");

    mode(0o600);
    assert_eq!(password(&scratch.load(&[url, named]).unwrap()), Some("from_file"));
    // The variable has precedence over the file, and the URL over both.
    assert_eq!(password(&scratch.load(&[url, named, ("PGPASSWORD", "variable")]).unwrap()), Some("variable"));
    let own = ("DATABASE_URL", "postgres://cgk:own@localhost/shop");
    assert_eq!(password(&scratch.load(&[own, named, ("PGPASSWORD", "variable")]).unwrap()), Some("own"));
    // The file has no line for another user.
    assert_eq!(password(&scratch.load(&[("DATABASE_URL", "postgres://x@localhost/shop"), named]).unwrap()), None);

    mode(0o644);
    let config = scratch.load(&[url, named]).unwrap();
    assert_eq!(password(&config), None);
    assert!(config.notices()[0].contains("chmod 600"), "{:?}", config.notices());

    // The file is ~/.pgpass; then a home directory without this file.
    mode(0o600);
    std::fs::rename(&path, scratch.path().join(".pgpass")).unwrap();
    let home = scratch.path().to_str().unwrap().to_owned();
    assert_eq!(password(&scratch.load(&[url, ("HOME", &home)]).unwrap()), Some("from_file"));
    assert_eq!(password(&scratch.load(&[url, ("HOME", "/nonexistent")]).unwrap()), None);
}

#[test]
fn a_line_of_another_program_in_dotenv_is_passed_over() {
    let scratch = Scratch::new(&[(".env", "source ./more.sh\nDATABASE_URL=postgres://a@localhost/db\nFOO BAR\n")]);
    let config = scratch.load(&[]).unwrap();
    assert_eq!(target(&config), "postgresql://a@localhost:5432/db");
    let notices = config.notices().join("\n");
    assert!(notices.contains("line 1 of ") && notices.contains("line 3 of "), "{notices}");
    assert!(!notices.contains("more.sh") && !notices.contains("BAR"), "a line may be a secret: {notices}");

    let scratch = Scratch::new(&[(".env", "X=1\nDATABASE_URL postgres://a:secret@localhost/db\n")]);
    let error = scratch.load(&[EMPTY_URL]).unwrap_err().to_string();
    assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
}
