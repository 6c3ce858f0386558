//! The name of a host, in a normal form.

use std::fmt;

/// A host in the normal form: lower case, no port, no dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostName(String);

impl HostName {
    /// Parses `name`, `name:port`, `name.` and `name.:port`. An address in brackets is not a name, and is not changed.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with('[') {
            let (address, port) = text.split_once(']').ok_or("an address in brackets has no end")?;
            let inside = &address[1..];
            let known = inside.parse::<std::net::Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port));
            return if known { Ok(Self(format!("[{}]", inside.to_ascii_lowercase()))) } else { Err("no address") };
        }
        let (name, port) = text.find(':').map_or((text, ""), |colon| text.split_at(colon));
        if !port.is_empty() && !is_port(port) {
            return Err("what follows the colon is no port");
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match name.len() <= 253 && name.split('.').all(is_label) {
            true => Ok(Self(name)),
            false => Err("it is no host name of letters, digits and hyphens"),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the single label before a base domain; `None` if the host is not directly below it.
    pub(crate) fn label_before(&self, base: &HostName) -> Option<&str> {
        self.0.strip_suffix(base.as_str())?.strip_suffix('.').filter(|label| !label.contains('.'))
    }

    /// Whether this is the base domain or a name below it.
    pub(crate) fn is_within(&self, base: &HostName) -> bool {
        self.0.strip_suffix(base.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is `:` and one to five digits.
fn is_port(text: &str) -> bool {
    let digits = &text[1..];
    text.starts_with(':') && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_has_one_form() {
        for text in [
            "acme.example.com",
            "ACME.Example.com",
            "acme.example.com.",
            "acme.example.com:443",
            "Acme.example.com.:80",
        ] {
            assert_eq!(HostName::parse(text).unwrap().as_str(), "acme.example.com", "{text}");
        }
        assert_eq!(HostName::parse("[::1]:8080").unwrap().as_str(), "[::1]");
        for wrong in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.b..",
            "a:",
            "a:x",
            "a:80:80",
            "a:99999",
            "a:+1",
            "a:-1",
            "a@b",
            "a b",
            "a\tb",
            "a/b",
            "a_b.c",
            "-a.b",
            "a-.b",
            "ü.de",
            "a\u{ff0e}b",
            "a,b",
            "[::1",
            "[::1]x",
            "[acme.example.com]",
            "a.b\0",
            &format!("{}.com", "a".repeat(64)),
            &["a"; 127].join("."),
            &format!("{}a", "a.".repeat(127)),
        ] {
            let parsed = HostName::parse(wrong);
            let fits = parsed.as_ref().is_ok_and(|host| host.as_str().len() <= 253);
            assert!(parsed.is_err() || (wrong.len() == 253 && fits), "{wrong:?}: {parsed:?}");
        }
    }

    #[test]
    fn only_the_label_right_before_the_base_counts() {
        let base = HostName::parse("example.com").unwrap();
        let label = |text: &str| HostName::parse(text).unwrap().label_before(&base).map(ToOwned::to_owned);
        assert_eq!(label("acme.example.com").as_deref(), Some("acme"));
        for none in
            ["example.com", "a.b.example.com", "acmeexample.com", "acme.example.com.evil.org", "acme.example.org"]
        {
            assert_eq!(label(none), None, "{none}");
        }
        assert!(HostName::parse("a.b.example.com").unwrap().is_within(&base));
        assert!(!HostName::parse("badexample.com").unwrap().is_within(&base));
    }

    proptest! {
        /// Every accepted host is in the normal form, and parsing it again changes nothing.
        #[test]
        fn what_is_read_is_in_its_one_form(text in "[-a-zA-Z0-9_.:\\[\\]@ ]{0,40}") {
            if let Ok(host) = HostName::parse(&text) {
                prop_assert_eq!(HostName::parse(host.as_str()).unwrap(), host.clone());
                prop_assert!(!host.as_str().ends_with('.') && !host.as_str().contains(['@', ' ', '_']));
                prop_assert_eq!(host.as_str(), &host.as_str().to_ascii_lowercase());
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            let _ = HostName::parse(&text);
        }
    }
}
