//! A page of a list.

use super::cursor::{self, List};
use axum::{
    extract::{FromRequestParts, Query},
    http::{StatusCode, request::Parts},
};
use cgk::axum::Problem;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const LIMIT_DEFAULT: u8 = 20;
const LIMIT_MAX: u8 = 100;

/// Which page of a list is wanted.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// How many records at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u8>,
    /// `next` of the page before.
    #[param(max_length = 64)]
    after: Option<String>,
}

/// A page of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// What `after` must be for the next page; null behind the last one.
    #[schema(required)]
    pub next: Option<String>,
}

/// Which records a page has.
pub struct Wanted {
    limit: u8,
    /// Behind this one.
    pub after: Option<Uuid>,
}

impl PageQuery {
    pub fn of(&self, list: List<'_>) -> Result<Wanted, Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::new(StatusCode::BAD_REQUEST).detail("limit is no number from 1 to 100"));
        }
        let after = self.after.as_deref().map(|text| cursor::decode(list, text)).transpose()?;
        Ok(Wanted { limit, after })
    }
}

impl Wanted {
    /// How many records to ask the database for: one more than the page has tells whether there is a next one.
    pub fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    pub fn page<T>(&self, mut items: Vec<T>, list: List<'_>, id: impl Fn(&T) -> Uuid) -> Page<T> {
        let more = items.len() > usize::from(self.limit);
        items.truncate(self.limit.into());
        let next = items.last().filter(|_| more).map(|last| cursor::encode(list, id(last)));
        Page { items, next }
    }
}

/// The query of a request: 400 for what is not documented.
pub struct Parameters<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(query)| Self(query))
            .map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST).detail(rejection.body_text()))
    }
}
