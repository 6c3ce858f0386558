//! Fills gaps in a connection string from libpq's environment: `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`,
//! `PGDATABASE`, `PGSSLMODE`, `PGSSLROOTCERT`, and the password file.
//!
//! The rules are those of libpq: the connection string has precedence, then the variable, then the password file
//! (`PGPASSFILE`, or `~/.pgpass`). A password file that others may read is ignored with a notice.

use std::path::PathBuf;

use super::env::Sources;
use super::error::ValueProblem;
use super::parts::{DEFAULT_PORT, Parts};

/// The variable that replaces a missing connection URL.
pub(super) const STAND_IN: &str = "PGDATABASE";

/// Fills the gaps of the connection string. Returns notices for the user.
pub(super) fn complete(parts: &mut Parts, sources: &Sources) -> Result<Vec<String>, ValueProblem> {
    let variable = |name: &str| sources.variable(name);
    if parts.hosts.is_empty()
        && !parts.options.iter().any(|(key, _)| key == "hostaddr")
        && let Some(hosts) = variable("PGHOST")?
    {
        parts.set("host", hosts.to_owned())?;
    }
    if parts.ports.is_empty()
        && let Some(port) = variable("PGPORT")?
    {
        parts.set("port", port.to_owned())?;
    }
    if parts.user.is_none() {
        parts.user = variable("PGUSER")?.map(str::to_owned);
    }
    if parts.database.is_none() {
        parts.database = variable("PGDATABASE")?.map(str::to_owned);
    }
    for (option, name) in [("sslmode", "PGSSLMODE"), ("sslrootcert", "PGSSLROOTCERT")] {
        let given = parts.options.iter().any(|(key, _)| key == option || (option == "sslmode" && key == "ssl"));
        if !given && let Some(value) = variable(name)? {
            parts.options.push((option.to_owned(), value.to_owned()));
        }
    }
    if parts.password.is_some() {
        return Ok(Vec::new());
    }
    if let Some(password) = variable("PGPASSWORD")? {
        parts.password = Some(password.as_bytes().to_vec());
        return Ok(Vec::new());
    }
    from_password_file(parts, sources)
}

/// Whether the environment names a database although there is no connection URL.
pub(super) fn names_a_database(sources: &Sources) -> Result<bool, ValueProblem> {
    Ok(sources.variable(STAND_IN)?.is_some())
}

fn from_password_file(parts: &mut Parts, sources: &Sources) -> Result<Vec<String>, ValueProblem> {
    let path = match (sources.variable("PGPASSFILE")?, sources.variable("HOME")?) {
        (Some(named), _) => sources.directory().join(named),
        (None, Some(home)) => PathBuf::from(home).join(".pgpass"),
        (None, None) => return Ok(Vec::new()),
    };
    // As in libpq, a missing or unreadable file is not an error: the server decides whether a password is needed.
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(Vec::new()) };
    if others_may_read(&path) {
        return Ok(vec![format!(
            "the password file {} was not used, because others may read it; run: chmod 600 {0}",
            path.display()
        )]);
    }
    let host = match parts.hosts.first() {
        // libpq looks up its default socket as localhost.
        None => "localhost",
        Some(directory) if directory.starts_with('/') => "localhost",
        Some(host) => host,
    };
    let port = parts.ports.first().unwrap_or(&DEFAULT_PORT).to_string();
    let database = parts.database.as_deref().unwrap_or_default();
    let Some(user) = parts.user.as_deref() else { return Ok(Vec::new()) };
    let wanted = [host, &port, database, user];
    parts.password = text.lines().find_map(|line| password_of(line, &wanted)).map(String::into_bytes);
    Ok(Vec::new())
}

#[cfg(unix)]
fn others_may_read(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn others_may_read(_: &std::path::Path) -> bool {
    false
}

/// Returns the password of a line `host:port:database:user:password` whose first four fields match.
fn password_of(line: &str, wanted: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for value in wanted {
        let (field, after) = field(rest)?;
        if field.text != *value && !(field.is_star && field.text == "*") {
            return None;
        }
        rest = after;
    }
    let password = unescaped(rest);
    (!password.is_empty()).then_some(password)
}

struct Field {
    text: String,
    /// Whether the text is an unescaped star.
    is_star: bool,
}

/// Returns the text up to the next unescaped colon, and the text after it.
fn field(text: &str) -> Option<(Field, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => {
                let raw = &text[..at];
                return Some((Field { text: unescaped(raw), is_star: raw == "*" }, &text[at + 1..]));
            }
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\\' {
            plain.extend(rest.next());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_password_file() {
        let wanted = ["db.example.com", "5432", "app", "cgk"];
        for (line, password) in [
            ("db.example.com:5432:app:cgk:secret", Some("secret")),
            ("*:*:*:*:any", Some("any")),
            (r"*:*:*:cgk:a\:b\\c", Some(r"a:b\c")),
            ("*:*:*:cgk:a:b", Some("a:b")),
            (r"\*:*:*:cgk:x", None),
            ("#*:*:*:*:any", None),
            ("*:*:*:other:x", None),
            ("*:*:*:cgk:", None),
            ("*:*:*", None),
            ("", None),
        ] {
            assert_eq!(password_of(line, &wanted).as_deref(), password, "{line}");
        }
    }
}
