//! Tests of the sources of values and their precedence.

use std::path::PathBuf;
use std::time::Duration;

use super::Scratch;
use crate::config::{
    Config, ConfigErrorKind, Isolation, MigrationsFrom, Origin, Overrides, Pooling, RemotePlaintext, TlsMode,
};

const URL: (&str, &str) = ("DATABASE_URL", "postgres://env@localhost/db");

fn origin(config: &Config, name: &str) -> Origin {
    config.settings().into_iter().find(|setting| setting.name == name).unwrap().origin
}

fn user(config: &Config) -> &str {
    config.target().user().unwrap()
}

#[test]
fn flags_beat_environment_beats_dotenv_beats_file() {
    let scratch = Scratch::new(&[
        ("cgk.toml", "database_url = 'postgres://file@localhost/db'"),
        ("secret", " postgres://secret@localhost/db \n"),
    ]);
    let toml = scratch.path().join("cgk.toml");
    let config = scratch.load(&[]).unwrap();
    assert_eq!(user(&config), "file");
    assert_eq!(origin(&config, "database_url"), Origin::File { path: toml, key: "database_url" });

    let env = scratch.path().join(".env");
    std::fs::write(&env, "# comment\nexport DATABASE_URL='postgres://dotenv@localhost/db' # more\n").unwrap();
    let config = scratch.load(&[("DATABASE_URL", "")]).unwrap();
    assert_eq!(user(&config), "dotenv");
    assert_eq!(origin(&config, "database_url"), Origin::DotEnv { path: env, variable: "DATABASE_URL" });

    let config = scratch.load(&[URL]).unwrap();
    assert_eq!(user(&config), "env");
    assert_eq!(origin(&config, "database_url"), Origin::Environment("DATABASE_URL"));

    // A file that the environment names has precedence over a URL in .env.
    let config = scratch.load(&[("CGK_DATABASE_URL_FILE", "secret")]).unwrap();
    assert_eq!(user(&config), "secret");
    assert_eq!(origin(&config, "database_url"), Origin::Environment("CGK_DATABASE_URL_FILE"));

    let flag = "postgres://flag:pw@localhost/db".to_owned();
    let overrides = Overrides { database_url: Some(flag), ..Overrides::default() };
    let config = scratch.load_with(overrides, &[URL]).unwrap();
    assert_eq!(user(&config), "flag");
    assert_eq!(origin(&config, "database_url"), Origin::Flag("--database-url"));
    assert!(config.notices()[0].contains("--database-url-file"), "{:?}", config.notices());

    let overrides = Overrides { database_url_file: Some(PathBuf::from("secret")), ..Overrides::default() };
    let config = scratch.load_with(overrides, &[URL]).unwrap();
    assert_eq!((user(&config), origin(&config, "database_url")), ("secret", Origin::Flag("--database-url-file")));
}

#[test]
fn every_key_of_the_file_is_read() {
    let scratch = Scratch::new(&[(
        "cgk.toml",
        "database_url_file = 'url'\ndirect_url = 'postgres://direct@localhost/db'\nmigrations = 'sql'\n\
         isolation = 'path'\nsearch_path = ['extensions', 'More']\npooled = true\n\
         [session]\napplication_name = 'web'\nlock_timeout = '1s'\nstatement_timeout = '2min'\n\
         migration_statement_timeout = '3h'\nmigration_wait = '9s'\nidle_in_transaction_timeout = '500ms'\n\
         [pool]\nsize_max = 3\ntenant_connections_max = 2\nwait = '4s'\nconnection_age_max = '1h'\ntenants_per_connection_max = 5\n\
         descriptions_max = 6\n",
    )]);
    std::fs::write(scratch.path().join("url"), "postgres://file:pw@localhost/db\n").unwrap();
    let config = scratch.load(&[]).unwrap();
    assert_eq!(config.migrations(), &MigrationsFrom::Directory(scratch.path().join("sql")));
    assert_eq!((config.isolation(), config.pooling()), (Isolation::Path, Pooling::Transaction));
    let schemas = |config: &Config| {
        config
            .search_path()
            .map(|names| names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(schemas(&config).as_deref(), Some("extensions More"));
    let from_environment = scratch.load(&[("CGK_SEARCH_PATH", "public, Ext, \"Two\"")]).unwrap();
    assert_eq!(schemas(&from_environment).as_deref(), Some("public ext Two"));
    for wrong in ["a b", "a,", ",", "\"\""] {
        let error = scratch.load(&[("CGK_SEARCH_PATH", wrong)]).unwrap_err();
        assert!(error.to_string().contains("search_path"), "{error}");
    }
    assert_eq!(config.session().application_name, "web");
    assert_eq!(config.session().lock_timeout, Duration::from_secs(1));
    assert_eq!(config.session().statement_timeout, Duration::from_secs(120));
    assert_eq!(config.session().migration_statement_timeout, Duration::from_secs(3 * 3600));
    assert_eq!(config.session().migration_wait, Duration::from_secs(9));
    assert_eq!(config.session().idle_in_transaction_timeout, Duration::from_millis(500));
    assert_eq!((config.pool().size_max, config.pool().wait), (3, Duration::from_secs(4)));
    assert_eq!(config.pool().tenant_connections_max, Some(2));
    assert_eq!(config.pool().connection_age_max, Duration::from_secs(3600));
    assert_eq!(config.pool().tenants_per_connection_max, 5);
    assert_eq!(config.pool().descriptions_max, 6);
    assert_eq!(user(&config.for_ddl().unwrap()), "direct");
    for setting in config.settings() {
        let by_file = matches!(setting.origin, Origin::File { .. });
        let elsewhere = ["insecure_plaintext", "tls", "secret_keys", "drift.ignore", "config"].contains(&setting.name);
        assert_eq!(by_file, !elsewhere, "{setting:?}");
    }
    let not_in_file = |name: &str| name.starts_with("drift") || name == "secret_keys";
    let shown: Vec<_> = config.settings().into_iter().filter(|setting| !not_in_file(setting.name)).collect();
    let shown: Vec<_> = shown.into_iter().map(|setting| setting.value.unwrap()).collect();
    let sql = scratch.path().join("sql").display().to_string();
    let expected = [
        "postgresql://file:***@localhost:5432/db",
        "disable",
        "postgresql://direct@localhost:5432/db",
        "false",
        "path",
        "\"extensions\", \"More\"",
        "true",
        &sql,
        "web",
        "1s",
        "2min",
        "3h",
        "9s",
        "500ms",
        "3",
        "2",
        "4s",
        "1h",
        "5",
        "6",
        &scratch.path().join("cgk.toml").display().to_string(),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn every_variable_is_read() {
    let scratch = Scratch::new(&[("other.toml", "[pool]\nsize_max = 9\nwait = '9s'")]);
    let config = scratch
        .load(&[
            ("CGK_CONFIG", "other.toml"),
            ("DATABASE_URL", "postgres://u@db/db"),
            ("CGK_INSECURE_PLAINTEXT", "1"),
            ("CGK_ISOLATION", "path"),
            ("CGK_POOLED", "yes"),
            ("CGK_MIGRATIONS", "sql"),
            ("CGK_APPLICATION_NAME", "web"),
            ("CGK_LOCK_TIMEOUT", "1s"),
            ("CGK_STATEMENT_TIMEOUT", "2s"),
            ("CGK_IDLE_IN_TRANSACTION_TIMEOUT", "3s"),
            ("CGK_MIGRATION_STATEMENT_TIMEOUT", "8s"),
            ("CGK_MIGRATION_WAIT", "9s"),
            ("CGK_POOL_SIZE_MAX", "4"),
            ("CGK_POOL_TENANT_CONNECTIONS_MAX", "3"),
            ("CGK_POOL_CONNECTION_AGE_MAX", "5s"),
            ("CGK_POOL_TENANTS_PER_CONNECTION_MAX", "6"),
            ("CGK_POOL_DESCRIPTIONS_MAX", "7"),
        ])
        .unwrap();
    assert_eq!(config.tls(), &TlsMode::Disable);
    assert_eq!((config.isolation(), config.pooling()), (Isolation::Path, Pooling::Transaction));
    assert_eq!(config.migrations(), &MigrationsFrom::Directory(scratch.path().join("sql")));
    let session = config.session();
    assert_eq!(session.application_name, "web");
    assert_eq!(config.pg().get_application_name(), Some("web"));
    assert_eq!(
        [
            session.lock_timeout,
            session.statement_timeout,
            session.idle_in_transaction_timeout,
            session.migration_statement_timeout,
            session.migration_wait
        ],
        [1, 2, 3, 8, 9].map(Duration::from_secs)
    );
    let pool = config.pool();
    assert_eq!(
        (pool.size_max, pool.wait, pool.connection_age_max),
        (4, Duration::from_secs(9), Duration::from_secs(5))
    );
    assert_eq!(pool.tenant_connections_max, Some(3));
    assert_eq!((pool.tenants_per_connection_max, pool.descriptions_max), (6, 7));
}

#[test]
fn every_flag_is_read() {
    let scratch = Scratch::new(&[("other.toml", "pooled = false")]);
    let overrides = Overrides {
        config_file: Some(PathBuf::from("other.toml")),
        migrations: Some(PathBuf::from("sql")),
        remote_plaintext: Some(RemotePlaintext::Allow),
        isolation: Some(Isolation::Path),
        pooling: Some(Pooling::Transaction),
        lock_timeout: Some(Duration::from_secs(1)),
        statement_timeout: Some(Duration::from_secs(2)),
        ..Overrides::default()
    };
    let variables = [
        ("DATABASE_URL", "postgres://u@db/db"),
        ("CGK_LOCK_TIMEOUT", "not looked at"),
        ("CGK_INSECURE_PLAINTEXT", "0"),
        ("CGK_CONFIG", "absent.toml"),
    ];
    let config = scratch.load_with(overrides, &variables).unwrap();
    assert_eq!(config.tls(), &TlsMode::Disable);
    assert_eq!((config.isolation(), config.pooling()), (Isolation::Path, Pooling::Transaction));
    assert_eq!(config.migrations(), &MigrationsFrom::Directory(scratch.path().join("sql")));
    assert_eq!(config.session().lock_timeout, Duration::from_secs(1));
    assert_eq!(config.session().statement_timeout, Duration::from_secs(2));
    let flags = config.settings().into_iter().filter(|setting| matches!(setting.origin, Origin::Flag(_)));
    assert_eq!(flags.count(), 7, "six, and the file itself");
}

#[test]
fn nothing_at_all_is_a_missing_url() {
    let error = Scratch::new(&[]).load(&[("DATABASE_URL", "")]).unwrap_err();
    assert!(error.is_missing_url());
    // As `main` prints it.
    let printed = "database_url: no connection URL was given. Set DATABASE_URL, in the environment or in .env, to \
                   postgresql://user:password@host:5432/database.";
    assert_eq!(format!("{error:?}"), printed);
    assert_eq!(error.to_string(), "database_url: no connection URL was given");
}

#[test]
fn a_foreign_line_that_opens_a_quote_hides_no_line_after_it() {
    let scratch = Scratch::new(&[(".env", "A=1\nB='open\nCGK_POOLED=true\n")]);
    let config = scratch.load(&[URL]).unwrap();
    assert_eq!(config.pooling(), crate::config::Pooling::Transaction, "the line after it counts");
    let notices = config.notices();
    assert!(notices.iter().any(|notice| notice.starts_with("line 2 of ") && notice.contains("quote")), "{notices:?}");
}

#[test]
fn errors_name_the_variable_the_file_the_line_and_the_key() {
    let path = |scratch: &Scratch, name: &str| scratch.path().join(name).display().to_string();
    for (name, text, shown) in [
        ("cgk.toml", "pooled = true\n\n[pool]\nsize_max = 'many'", "pool.size_max (FILE, line 4): invalid type"),
        ("cgk.toml", "pooled = true\npoolled = true", "cgk.toml (FILE, line 2): unknown field `poolled`"),
        ("cgk.toml", "[pool]\nsize_max = 0", "pool.size_max (FILE: pool.size_max): is zero"),
        ("cgk.toml", "[session]\nlock_timeout = '3'", "session.lock_timeout (FILE, line 2): expected a time"),
        (
            "cgk.toml",
            "isolation = 'rolle'",
            "isolation (FILE, line 1): unknown variant `rolle`, expected `role` or `path`",
        ),
        (
            "cgk.toml",
            "isolation = 'Rolle7'",
            "isolation (FILE, line 1): unknown variant `…`, expected `role` or `path`",
        ),
        ("cgk.toml", "a\n", "(FILE, line 1): "),
        ("cgk.toml", "database_url_file = 'absent'", "database_url_file (FILE: database_url_file): could not read"),
        (".env", "A=1\n\nCGK_POOLED 1\n", ".env (FILE, line 3): is not NAME=value"),
        (".env", "A=1\nCGK_POOLED='open\nB=1\n", ".env (FILE, line 2): is not NAME=value"),
        (".env", "CGK_POOLED=perhaps\n", "pooled (CGK_POOLED in FILE): is neither true nor false"),
    ] {
        let scratch = Scratch::new(&[(name, text)]);
        let variables: &[_] = if text.contains("url") { &[] } else { &[URL] };
        let error = scratch.load(variables).unwrap_err();
        let shown = shown.replace("FILE", &path(&scratch, name));
        assert!(error.to_string().contains(&shown), "{text:?}: {error} should have {shown}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    for (name, value, shown) in [
        ("CGK_ISOLATION", "rolle", "isolation (environment variable CGK_ISOLATION): is neither role nor path"),
        ("CGK_POOL_SIZE_MAX", "0", "pool.size_max (environment variable CGK_POOL_SIZE_MAX): is zero"),
        ("CGK_LOCK_TIMEOUT", "3", "session.lock_timeout (environment variable CGK_LOCK_TIMEOUT): is a time without"),
        ("CGK_CONFIG", "absent.toml", "cgk.toml (environment variable CGK_CONFIG): could not read"),
        ("CGK_DIRECT_URL", "x", "direct_url (environment variable CGK_DIRECT_URL): is neither a URL"),
        (
            "CGK_DATABASE_URL_FILE",
            "x",
            "database_url_file (environment variable CGK_DATABASE_URL_FILE): is given together",
        ),
    ] {
        let error = Scratch::new(&[]).load(&[URL, (name, value)]).unwrap_err();
        assert!(error.to_string().starts_with(shown), "{error}");
    }
}

#[test]
fn a_password_in_the_file_is_refused() {
    for key in ["database_url", "direct_url"] {
        let text = format!("{key} = 'postgres://u:pw@localhost/db'");
        let scratch = Scratch::new(&[("cgk.toml", &text)]);
        let variables: &[_] = if key == "direct_url" { &[URL] } else { &[] };
        let error = scratch.load(variables).unwrap_err();
        assert_eq!((error.setting(), error.kind()), (key, ConfigErrorKind::Refused));
        assert!(error.advice().contains(".env"), "{}", error.advice());
    }
}

#[test]
fn an_empty_url_file_says_so() {
    let scratch = Scratch::new(&[("url", "\n")]);
    let error = scratch.load(&[("CGK_DATABASE_URL_FILE", "url")]).unwrap_err();
    assert!(error.to_string().ends_with("url is empty"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_an_error() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new(&[]);
    let sources =
        crate::config::env::Sources::of(scratch.path(), &[URL]).with("CGK_POOLED", OsStr::from_bytes(b"\xff"));
    let error = crate::config::load::load(Overrides::default(), &sources).unwrap_err();
    assert_eq!(error.to_string(), "pooled (environment variable CGK_POOLED): is not UTF-8");
}

#[test]
fn what_the_program_sets_is_said_to_come_from_it() {
    let config = Config::from_url("postgres://localhost/db?application_name=web")
        .unwrap()
        .with_pool_size_max(0)
        .with_isolation(Isolation::Path)
        .with_migrations(MigrationsFrom::Directory("sql".into()));
    assert_eq!(config.pool().size_max, 1);
    for name in ["database_url", "pool.size_max", "isolation", "migrations"] {
        assert_eq!(origin(&config, name), Origin::Code, "{name}");
    }
    assert_eq!(origin(&config, "pool.wait"), Origin::Default);
    assert_eq!(origin(&config, "session.application_name"), Origin::Url("application_name"));
}
