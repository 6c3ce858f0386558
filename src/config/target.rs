//! The address of a connection, for display.

use std::fmt;
use std::net::IpAddr;

use super::percent;

/// The address of a connection: the hosts, the database and the user, without the password.
///
/// Displays as a connection URL: `postgresql://app@db.example.com:5432/shop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionTarget {
    pub(super) hosts: Vec<TargetHost>,
    pub(super) database: String,
    pub(super) user: Option<String>,
}

/// One host of a [`ConnectionTarget`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetHost {
    /// A host that is reached over the network.
    Network {
        /// The host's name, or its address without brackets.
        name: String,
        /// The port.
        port: u16,
    },
    /// A socket on this machine.
    Socket {
        /// The directory the socket is in.
        directory: String,
        /// The port, which is part of the socket's name.
        port: u16,
    },
}

impl ConnectionTarget {
    /// Returns the hosts in the order they are tried.
    pub fn hosts(&self) -> &[TargetHost] {
        &self.hosts
    }

    /// Returns the database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Returns the user's name. `None` if the URL contains none; then the operating system's user is used.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Writes the URL, with `***` if there is a password.
    pub(super) fn masked(&self, has_password: bool) -> String {
        let mut url = String::new();
        self.write(&mut url, if has_password { ":***" } else { "" }).expect("writing to a string does not fail");
        url
    }

    /// Writes the URL for another login, with its password.
    pub(super) fn url_of(&self, user: &str, password: Option<&str>) -> String {
        let mut url = String::new();
        let target = ConnectionTarget { user: Some(user.to_owned()), ..self.clone() };
        let password = password.map(|password| format!(":{}", percent::encode(password))).unwrap_or_default();
        target.write(&mut url, &password).expect("writing to a string does not fail");
        url
    }

    fn write(&self, f: &mut impl fmt::Write, password: &str) -> fmt::Result {
        f.write_str("postgresql://")?;
        if let Some(user) = &self.user {
            write!(f, "{}{password}@", percent::encode(user))?;
        }
        // A URL can contain socket directories only in the query. Elsewhere they must be percent-encoded, which is hard
        // to read.
        let alone = match &self.hosts[..] {
            [TargetHost::Socket { directory, port }] => Some((directory, port)),
            _ => None,
        };
        if alone.is_none() {
            for (index, host) in self.hosts.iter().enumerate() {
                f.write_str(if index == 0 { "" } else { "," })?;
                match host {
                    TargetHost::Network { name, port } if name.contains(':') => {
                        write!(f, "[{}]:{port}", name.replace('%', "%25"))?;
                    }
                    TargetHost::Network { name, port } => write!(f, "{}:{port}", name.replace('%', "%25"))?,
                    TargetHost::Socket { directory, port } => write!(f, "{}:{port}", percent::encode(directory))?,
                }
            }
        }
        write!(f, "/{}", percent::encode(&self.database))?;
        if let Some((directory, port)) = alone {
            write!(f, "?host={}&port={port}", percent::encode(directory).replace("%2F", "/"))?;
        }
        Ok(())
    }
}

impl fmt::Display for ConnectionTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "")
    }
}

/// Displays as `db.example.com:5432`, `[::1]:5432`, `socket /var/run/postgresql`.
impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Network { name, port } => write!(f, "{name}:{port}"),
            Self::Socket { directory, .. } => write!(f, "socket {directory}"),
        }
    }
}

impl TargetHost {
    /// Returns the port.
    pub fn port(&self) -> u16 {
        match self {
            TargetHost::Network { port, .. } | TargetHost::Socket { port, .. } => *port,
        }
    }
}

/// How far away a host is. It decides whether a connection may be unencrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Distance {
    Socket,
    Loopback,
    Remote,
}

/// Returns how far away an address or a host name is. The only name that counts as local is `localhost`.
pub(super) fn distance(host: &str) -> Distance {
    if host.starts_with('/') {
        return Distance::Socket;
    }
    let local = match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    if local { Distance::Loopback } else { Distance::Remote }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_local() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(distance(host), Distance::Loopback, "{host}");
        }
        for host in ["localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "::", "0.0.0.0", "db", "128.0.0.1"] {
            assert_eq!(distance(host), Distance::Remote, "{host}");
        }
        assert_eq!(distance("/var/run/postgresql"), Distance::Socket);
    }
}
