//! Tests of strings that must be refused, each with the text of the error.

use crate::config::{Config, ConfigErrorKind};

use ConfigErrorKind::{Invalid, MissingUrl, Refused, Unreadable};

const CASES: &[(&str, ConfigErrorKind, &str, &str)] = &[
    ("", MissingUrl, "no connection URL", "DATABASE_URL"),
    ("  ", MissingUrl, "no connection URL", "DATABASE_URL"),
    ("localhost", Invalid, "neither a URL nor key=value", "postgresql://"),
    ("mysql://u:pw@h/db", Invalid, "does not start with postgresql://", "postgresql://"),
    ("jdbc:postgresql://h/db", Invalid, "does not start with postgresql://", "jdbc:"),
    ("postgresql+asyncpg://u:pw@h/db", Invalid, "does not start with postgresql://", "+asyncpg"),
    // Characters that are not escaped.
    ("postgres://u:p@ss@h/db", Invalid, "unescaped `@`", "%40"),
    ("postgres://u:p#ss@h/db", Invalid, "unescaped `/`, `?`, `#` or `@`", "%23"),
    ("postgres://u:p/ss@h/db", Invalid, "unescaped `/`, `?`, `#` or `@`", "%2F"),
    ("postgres://u:p?ss@h/db", Invalid, "unescaped `/`, `?`, `#` or `@`", "%3F"),
    ("postgres://u:pss@h/db#x", Invalid, "unescaped `#`", "%23"),
    ("postgres://u:p%ss@h/db", Invalid, "a `%` that", "%25"),
    ("postgres://u:p%00@h/db", Invalid, "a `%` that", "%00"),
    ("postgres://u%ff:p@h/db", Invalid, "not UTF-8", "UTF-8"),
    // Addresses.
    ("postgres://u:pw@h", Invalid, "names no database", "/database"),
    ("postgres://u:pw@h/", Invalid, "names no database", "/database"),
    ("postgres://u:pw@/db", Invalid, "names no host", "/var/run/postgresql"),
    ("postgresql:///db", Invalid, "names no host", "localhost"),
    ("postgres://u:pw@a,,b/db", Invalid, "names no host", "localhost"),
    ("postgres://u:pw@h:x/db", Invalid, "the port is not a number", "percent-encoded"),
    ("postgres://u:pw@h:0/db", Invalid, "the port is not a number", "percent-encoded"),
    ("postgres://u:pw@h:65536/db", Invalid, "the port is not a number", "percent-encoded"),
    ("postgres://u:pw@::1/db", Invalid, "the port is not a number", "[::1]"),
    ("postgres://u:pw@[::1/db", Invalid, "bracketed", "[::1]"),
    ("postgres://u:pw@[::1]x/db", Invalid, "bracketed", "[::1]"),
    ("postgres://u:pw@h o/db", Invalid, "a character in the host", "percent-encoded"),
    ("host=a,b,c port=1,2 dbname=db", Invalid, "different lengths", "one port"),
    ("host=a,b hostaddr=127.0.0.1 dbname=db", Invalid, "different lengths", "one port"),
    ("host=localhost dbname=db password=two words", Invalid, "a word that is not", "single quotes"),
    ("host=localhost password='open", Invalid, "closing quote", "single quotes"),
    // TLS.
    ("postgres://u:pw@h/db?sslmode=disable", Refused, "in the clear", "CGK_INSECURE_PLAINTEXT"),
    ("postgres://u:pw@localhost,h/db?sslmode=disable", Refused, "in the clear", "--insecure-plaintext"),
    ("postgres://u:pw@h/db?sslmode=allow", Refused, "accept any server", "verify-full"),
    ("postgres://u:pw@h/db?sslmode=no-verify", Refused, "accept any server", "sslrootcert"),
    ("postgres://u:pw@h/db?sslmode=maybe", Invalid, "sslmode is none of", "verify-full"),
    ("postgres://u:pw@h/db?sslmode=disable&channel_binding=require", Refused, "channel_binding", "sslmode=disable"),
    ("postgres://u:pw@h/db?sslrootcert=/nowhere/ca.pem", Unreadable, "/nowhere/ca.pem", "sslrootcert"),
    ("postgres://u:pw@h/db?sslrootcert=/", Unreadable, "could not read the file /", "sslrootcert"),
    ("postgres://u:pw@h/db?sslcert=/nowhere/c.pem", Refused, "without its key", "sslrootcert"),
    ("postgres://u:pw@h/db?sslkey=/nowhere/c.key", Refused, "without its certificate", "sslcert"),
    ("postgres://u:pw@h/db?sslcert=/nowhere/c&sslkey=/nowhere/k", Unreadable, "/nowhere/c", "sslcert"),
    ("host=/tmp,h dbname=db", Refused, "mixes socket", "one URL"),
    ("postgres://u:pw@h/db?sslaccept=accept_invalid_certs", Refused, "`sslaccept`", "sslrootcert"),
    ("postgres://u:pw@h/db?sslpassword=x&sslcert=a", Refused, "`sslpassword`", "Decrypt"),
    // Options.
    ("postgres://u:pw@h/db?schema=shop", Refused, "`schema`", "slug"),
    ("postgres://u:pw@h/db?currentSchema=shop", Refused, "`currentSchema`", "slug"),
    ("postgres://u:pw@h/db?options=-c%20search_path%3Dx", Refused, "search_path", "`options`"),
    ("postgres://u:pw@h/db?options=--role%3Dx", Refused, "role", "`options`"),
    ("service=shop", Refused, "`service`", "pg_service.conf"),
    ("host=h dbname=db passfile=/x", Refused, "`passfile`", "CGK_DATABASE_URL_FILE"),
    ("postgres://u:pw@h/db?gssencmode=require", Refused, "`gssencmode`", "TLS"),
    ("postgres://u:pw@h/db?statement_timeout=5", Refused, "`statement_timeout`", "session.statement_timeout"),
    ("postgres://u:pw@h/db?nonsense=1", Refused, "unknown option `nonsense`", "Remove"),
    ("postgres://u@h/db?password=a&bcd=1", Refused, "an unknown option", "%26"),
    ("postgres://u:pw@h/db?nonsense", Invalid, "without a value", "name=value"),
    ("postgres://u:pw@h/db?pgbouncer=perhaps", Invalid, "pgbouncer", "pgbouncer=true"),
    ("postgres://u:pw@h/db?connect_timeout=soon", Invalid, "connect_timeout", "connect_timeout"),
    ("postgres://u:pw@h/db?target_session_attrs=standby", Invalid, "target_session_attrs", "target_session_attrs"),
    ("postgres://u:pw@h/db?hostaddr=nowhere", Invalid, "hostaddr", "hostaddr"),
];

#[test]
fn says_what_is_wrong_and_what_to_do() {
    for &(url, kind, problem, advice) in CASES {
        let error = Config::from_url(url).err().unwrap_or_else(|| panic!("{url} was accepted"));
        assert_eq!(error.kind(), kind, "{url}: {error}");
        assert_eq!(error.setting(), "database_url", "{url}");
        assert!(error.problem().contains(problem), "{url}: {error}");
        assert!(error.advice().contains(advice), "{url}: {}", error.advice());
        assert_eq!(error.is_missing_url(), kind == MissingUrl);
        let line = error.to_string();
        assert!(!line.contains('\n') && !line.ends_with('.') && line.starts_with("database_url: "), "{line}");
        assert!(error.advice().ends_with('.') && error.advice().starts_with(char::is_uppercase), "{}", error.advice());
    }
}

#[test]
fn notices_are_phrases() {
    let url = "postgres://u@db/x?gssencmode=prefer&sslaccept=strict&supa=base-pooler.x&schema=public&sslmode=prefer";
    let config = Config::from_url(url).unwrap();
    assert_eq!(config.notices().len(), 5);
    for notice in config.notices() {
        assert!(notice.starts_with(char::is_lowercase) && !notice.ends_with('.'), "{notice}");
    }
}
