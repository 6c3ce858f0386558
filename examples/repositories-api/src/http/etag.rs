//! ETags and conditional requests (RFC 9110, section 13).

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use cgk::axum::Problem;
use std::convert::Infallible;

/// The state of a record, as an ETag says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    pub fn of(version: i64) -> Self {
        Self(format!("\"{version}\""))
    }

    pub fn to_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("a number in quotes is a header's value")
    }
}

/// `If-Match`: the states in which a record may be changed.
#[derive(Debug)]
pub struct IfMatch(Option<Tags>);

/// `If-None-Match`: the states that the client has.
#[derive(Debug)]
pub struct IfNoneMatch(Option<Tags>);

#[derive(Debug)]
enum Tags {
    /// `*`
    Any,
    These(String),
}

impl Tags {
    /// RFC 9110 allows several lines of a list.
    fn read(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let lines: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
        match lines.as_slice() {
            [] => None,
            [only] if only.trim() == "*" => Some(Self::Any),
            lines => Some(Self::These(lines.join(","))),
        }
    }

    /// Ours have no comma, and so a list is split at each.
    fn list(&self) -> impl Iterator<Item = &str> {
        let text = match self {
            Self::Any => "",
            Self::These(text) => text,
        };
        text.split(',').map(str::trim)
    }
}

impl IfMatch {
    /// 428 without the header.
    pub fn require(self) -> Result<Self, Problem> {
        match self.0 {
            Some(_) => Ok(self),
            None => Err(Problem::new(StatusCode::PRECONDITION_REQUIRED)
                .detail("If-Match must say which state is to be changed: the ETag of the record")),
        }
    }

    /// 412 where the record is in another state. A weak tag matches nothing, as the RFC wants it.
    pub fn check(&self, state: &ETag) -> Result<(), Problem> {
        let matches = match &self.0 {
            None | Some(Tags::Any) => true,
            Some(tags) => tags.list().any(|tag| tag == state.0),
        };
        match matches {
            true => Ok(()),
            false => Err(Problem::new(StatusCode::PRECONDITION_FAILED).detail("it was changed meanwhile")),
        }
    }
}

impl IfNoneMatch {
    /// A record as an answer: 304 if the client has this state.
    pub fn answer(&self, state: &ETag, record: impl IntoResponse) -> Response {
        let has = match &self.0 {
            None => false,
            Some(Tags::Any) => true,
            Some(tags) => tags.list().any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == state.0),
        };
        let headers =
            [(header::ETAG, state.to_value()), (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))];
        match has {
            true => (StatusCode::NOT_MODIFIED, headers).into_response(),
            false => (headers, record).into_response(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(Tags::read(&parts.headers, &header::IF_MATCH)))
    }
}

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(Tags::read(&parts.headers, &header::IF_NONE_MATCH)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_match(lines: &[&'static str]) -> IfMatch {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, HeaderValue::from_static(line));
        }
        IfMatch(Tags::read(&headers, &header::IF_MATCH))
    }

    #[test]
    fn a_record_is_changed_in_a_state_that_was_named() {
        let state = ETag::of(7);
        for good in [&["\"7\""][..], &["*"], &["\"6\", \"7\""], &["\"6\"", " \"7\" "]] {
            assert!(if_match(good).check(&state).is_ok(), "{good:?}");
        }
        for bad in [&["\"8\""][..], &["7"], &["W/\"7\""], &[""], &["\"6\",*"], &["\"77\""]] {
            assert_eq!(if_match(bad).check(&state).unwrap_err().status(), 412, "{bad:?}");
        }
        assert_eq!(if_match(&[]).require().unwrap_err().status(), 428);
    }
}
