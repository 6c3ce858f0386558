//! The id of a request: where it comes from, and how the answers find it.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::{future::Future, sync::Arc};

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a request.
const LENGTH_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The id of a request: letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug)]
pub(super) struct RequestId(Arc<str>);

/// Whether the id of a request may come from the header `x-request-id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdSource {
    /// A new one for each request.
    New,
    /// That of the header, where it is well-formed.
    TrustedHeader,
}

impl RequestId {
    pub(super) fn of(headers: &HeaderMap, source: IdSource) -> Self {
        let given = (source == IdSource::TrustedHeader).then(|| Self::given(headers)).flatten();
        given.unwrap_or_else(|| Self(uuid::Uuid::now_v7().to_string().into()))
    }

    /// The id that the request has once, and well-formed.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(HEADER).iter();
        let (Some(only), None) = (values.next(), values.next()) else { return None };
        let text = only.to_str().ok()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = (1..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| Self(text.into()))
    }

    /// The id of the request that the task answers.
    pub(super) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    pub(super) fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), future)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn to_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("letters, digits and a few signs are a header's value")
    }
}
