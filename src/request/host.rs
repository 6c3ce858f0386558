//! Reads the host of a request.

use super::error::RequestError;
use crate::host::HostName;
use http::{HeaderMap, header::HOST, request::Parts};

/// Where the host of a request is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostSource {
    /// The request's target or the header `host`.
    Request,
    /// The header `x-forwarded-host` if it is present, otherwise the request.
    TrustedProxy,
}

/// Returns the host of a request.
pub(super) fn host_of(parts: &Parts, source: HostSource) -> Result<HostName, RequestError> {
    const FORWARDED: &str = "x-forwarded-host";
    let read = |what, text: Option<&str>| {
        text.map(|text| HostName::parse(text).map_err(|why| malformed(what, why))).transpose()
    };
    if source == HostSource::TrustedProxy
        && let Some(host) = read(FORWARDED, single(&parts.headers, FORWARDED, FORWARDED)?)?
    {
        return Ok(host);
    }
    let header = read("host", single(&parts.headers, HOST.as_str(), "host")?)?;
    let target = read("the request's target", parts.uri.authority().map(http::uri::Authority::as_str))?;
    match (target, header) {
        (Some(target), Some(header)) if target != header => {
            Err(malformed("host", "it is another one than the request's target"))
        }
        (target, header) => target.or(header).ok_or(malformed("host", "it is missing")),
    }
}

/// Returns the value of a header that may occur once. Different programs read a repeated header differently.
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &str,
    what: &'static str,
) -> Result<Option<&'a str>, RequestError> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed(what, "it stands there more than once"));
    }
    first.to_str().map(Some).map_err(|_| malformed(what, "it is not plain ASCII"))
}

fn malformed(what: &'static str, why: &'static str) -> RequestError {
    RequestError::Malformed { what, why }
}
