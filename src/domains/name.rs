//! A domain in the normal form, the same as for the hosts of requests.

use crate::host::HostName;
use std::{fmt, str::FromStr};

/// A domain of two labels or more: lower case, no port, no dot at the end, ASCII. Write an internationalized name in
/// its ASCII form, `xn--…`.
///
/// ```
/// use cgk::domains::DomainName;
/// assert_eq!("Shop.Example.com.".parse::<DomainName>()?.as_str(), "shop.example.com");
/// for no_domain in ["localhost", "shop.example.com:443", "192.0.2.1", "[::1]", "bücher.example", "a_b.example"] {
///     assert!(no_domain.parse::<DomainName>().is_err());
/// }
/// # Ok::<(), cgk::domains::InvalidDomain>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainName(HostName);

/// The text is not a domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a domain: {why}")]
pub struct InvalidDomain {
    /// The given text, cut after 80 characters.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl DomainName {
    /// Returns the domain.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the host of a request as a domain; `None` for an address, and for a host of one label.
    pub(crate) fn of_host(host: &HostName) -> Option<Self> {
        let last = host.as_str().rsplit_once('.').map(|(_, last)| last)?;
        let is_name = !host.as_str().starts_with('[') && !last.bytes().all(|byte| byte.is_ascii_digit());
        is_name.then(|| Self(host.clone()))
    }
}

impl FromStr for DomainName {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, InvalidDomain> {
        let invalid = |why| InvalidDomain { text: text.chars().take(80).collect(), why };
        if text.contains([':', '[']) {
            return Err(invalid("it has a port or is an address"));
        }
        let host = HostName::parse(text).map_err(invalid)?;
        Self::of_host(&host).ok_or(invalid("it has one label, or is an address"))
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
