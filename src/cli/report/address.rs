//! The address of `--serve`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// An address of this machine that other machines cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loopback(pub(super) SocketAddr);

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = match text.strip_prefix("localhost:") {
            Some(port) => port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            None => text.parse().ok(),
        };
        match address {
            Some(address) if address.ip().is_loopback() => Ok(Self(address)),
            Some(_) => Err("other machines could reach it; use 127.0.0.1 or [::1], and a proxy with a login".into()),
            None => Err("it is not an address and a port, such as 127.0.0.1:8080".into()),
        }
    }
}

/// Whether the Host header of a request names this address. A page of another site whose name resolves to this address,
/// after a changed DNS response, sends its own name.
pub(super) fn is_own_host(host: &str, address: SocketAddr) -> bool {
    let names = [address.ip().to_string(), format!("[{}]", address.ip()), "localhost".to_owned()];
    let port = format!(":{}", address.port());
    let name = match host.strip_suffix(&port) {
        Some(name) => name,
        None if address.port() == 80 => host,
        None => return false,
    };
    names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_served() {
        for good in ["127.0.0.1:0", "[::1]:8080", "127.9.9.9:1", "localhost:8080"] {
            assert!(good.parse::<Loopback>().is_ok(), "{good}");
        }
        for bad in
            ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "192.168.1.1:80", "example.com:80", "127.0.0.1", "localhost", ""]
        {
            assert!(bad.parse::<Loopback>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_its_own_names_are_answered() {
        let address: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        for good in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080"] {
            assert!(is_own_host(good, address), "{good}");
        }
        for bad in [
            "evil.example:8080",
            "127.0.0.1",
            "127.0.0.1:80",
            "localhost.evil.example:8080",
            "x127.0.0.1:8080",
            ":8080",
            "",
        ] {
            assert!(!is_own_host(bad, address), "{bad}");
        }
        assert!(is_own_host("[::1]:8080", "[::1]:8080".parse().unwrap()));
        assert!(is_own_host("localhost", "127.0.0.1:80".parse().unwrap()));
    }
}
