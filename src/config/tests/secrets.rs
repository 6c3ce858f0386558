//! Tests that passwords are only sent to the server.

use std::error::Error;

use proptest::prelude::*;

use super::Scratch;
use crate::config::parts::Parts;
use crate::config::{Config, ConfigError, Overrides, percent};

/// Returns everything that an error can show: the message, its causes, the advice and the debug form.
fn everything(error: &ConfigError) -> String {
    let mut text = format!("{error} {} {error:?}", error.advice());
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}

/// Returns a secret that can be recognised in any text, with characters that are special for the parsers.
fn secret() -> impl Strategy<Value = String> {
    r#"([^\x00]|[@:/?#&=%' \[\]\\"$,;])*"#.prop_map(|noise: String| format!("Zq7x{noise}Zq7y"))
}

fn clean(text: &str) -> bool {
    !text.contains("Zq7")
}

proptest! {
    #[test]
    fn any_encoded_password_arrives(password in "[^\0]+") {
        let url = format!("postgresql://u:{}@localhost/db", percent::encode(&password));
        let config = Config::from_url(&url).unwrap();
        prop_assert_eq!(config.pg().get_password(), Some(password.as_bytes()));
    }

    #[test]
    fn any_quoted_password_arrives(password in "[^\0]+") {
        let quoted = password.replace('\\', r"\\").replace('\'', r"\'");
        let config = Config::from_url(&format!("host=localhost dbname=db password='{quoted}'")).unwrap();
        prop_assert_eq!(config.pg().get_password(), Some(password.as_bytes()));
    }

    #[test]
    fn parsing_never_panics(text in ".*", url in "postgres(ql)?://[a-z:@/?#&=%,\\[\\]0-9.]*", dsn in "([a-z]{1,9}=['a-z\\\\ ]*)*") {
        for text in [text, url, dsn] {
            let _ = Parts::parse(&text);
            let _ = Config::from_url(&text);
        }
    }

    #[test]
    fn a_password_that_was_not_escaped_is_not_shown(secret in secret()) {
        let scratch = Scratch::new(&[]);
        for url in [
            format!("postgresql://u:{secret}@db.example/db"),
            format!("postgresql://u:{secret}@db.example/db?sslmode=disable"),
            format!("postgresql://u:pw@db.example/db?password={secret}&sslmode=allow"),
            format!("host=db.example dbname=db sslmode=disable password={secret}"),
            format!("host=db.example password='{secret}' dbname=db sslmode=disable"),
            format!("mysql://u:{secret}@db.example/db"),
        ] {
            if let Err(error) = Config::from_url(&url) {
                prop_assert!(clean(&everything(&error)), "{}", everything(&error));
            }
            if let Err(error) = scratch.load(&[("DATABASE_URL", &url)]) {
                prop_assert!(clean(&everything(&error)), "{}", everything(&error));
            }
        }
    }

    #[test]
    fn a_broken_file_is_not_quoted(secret in secret()) {
        let url = format!("postgresql://u:{secret}@db.example/db");
        let encoded = format!("postgresql://u:{}@db.example/db", percent::encode(&secret));
        for (name, text) in [
            (".env", format!("DATABASE_URL={url}")),
            (".env", format!("DATABASE_URL=\"{url}")),
            (".env", format!("# first\n\nDATABASE_URL {encoded}")),
            ("cgk.toml", format!("database_url = {encoded}")),
            ("cgk.toml", format!("database_url = \"{url}")),
            ("cgk.toml", format!("database_url = '''{encoded}'''")),
            ("cgk.toml", format!("pooled = '''{encoded}'''")),
            ("cgk.toml", format!("pool = '''{encoded}'''")),
            ("cgk.toml", format!("isolation = '''{encoded}'''")),
            ("cgk.toml", format!("[session]\nlock_timeout = '''{encoded}'''")),
        ] {
            let scratch = Scratch::new(&[(name, &text)]);
            if let Err(error) = scratch.load(&[]) {
                prop_assert!(clean(&everything(&error)), "{}", everything(&error));
            }
        }
    }

    #[test]
    fn a_configuration_does_not_show_its_password(secret in secret()) {
        let encoded = percent::encode(&secret);
        let url = format!("postgresql://u:{encoded}@h.example:6432/db");
        let scratch = Scratch::new(&[]);
        let config = scratch.load(&[("DATABASE_URL", &url), ("CGK_DIRECT_URL", &url)]).unwrap();
        let mut shown = format!("{config:?} {config:#?} {} {:?}", config.target(), config.settings());
        shown.push_str(&config.notices().concat());
        prop_assert!(clean(&shown), "{}", shown);
        let overrides = Overrides { database_url: Some(url), ..Overrides::default() };
        let shown = format!("{overrides:?}");
        prop_assert!(clean(&shown));
    }
}
