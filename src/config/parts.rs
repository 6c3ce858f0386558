//! The parts of a connection string, independent of its form.

use super::error::ValueProblem;

/// The parts of a connection string. This is not `Debug`, because it contains the password.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) user: Option<String>,
    /// The password, as bytes, because an escaped password need not be UTF-8.
    pub(super) password: Option<Vec<u8>>,
    /// Host names, addresses without brackets, and socket directories (with a leading `/`).
    pub(super) hosts: Vec<String>,
    /// The ports: one per host, one for all hosts, or none.
    pub(super) ports: Vec<u16>,
    pub(super) database: Option<String>,
    /// Every other option in the original order. Empty values are left out, as in libpq.
    pub(super) options: Vec<(String, String)>,
    pub(super) key_secrecy: KeySecrecy,
}

/// Whether a message may contain the name of an option.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum KeySecrecy {
    #[default]
    Showable,
    /// The password is one of the options, so an unknown name may be a part of an unescaped password.
    MayBeSecret,
}

impl Parts {
    /// Stores one `key=value`, from a query string or from a key=value string. A later value replaces an earlier one.
    pub(super) fn set(&mut self, key: &str, value: String) -> Result<(), ValueProblem> {
        if value.is_empty() {
            return Ok(());
        }
        match key {
            "user" => self.user = Some(value),
            "password" => {
                self.password = Some(value.into_bytes());
                self.key_secrecy = KeySecrecy::MayBeSecret;
            }
            "dbname" => self.database = Some(value),
            "host" => self.hosts = value.split(',').map(str::to_owned).collect(),
            "port" => self.ports = value.split(',').map(port).collect::<Result<_, _>>()?,
            _ => self.options.push((key.to_owned(), value)),
        }
        Ok(())
    }
}

/// Reads one port. An empty text is PostgreSQL's default.
pub(super) fn port(text: &str) -> Result<u16, ValueProblem> {
    match text {
        "" => Ok(DEFAULT_PORT),
        _ => text.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
            ValueProblem::invalid(
                "the port is not a number from 1 to 65535",
                "Check the part after the host. An IPv6 address needs brackets, as in [::1]:5432, and a password with \
                 `:`, `/`, `?`, `#`, `@` or `%` in it must be percent-encoded.",
            )
        }),
    }
}

/// PostgreSQL's default port.
pub(super) const DEFAULT_PORT: u16 = 5432;
