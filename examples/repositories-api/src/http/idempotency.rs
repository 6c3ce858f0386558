//! Creation that happens once, however often it is asked for: the header `Idempotency-Key`.
//!
//! What was answered is written in the transaction that created the record, so that both are there or neither. Of requests with the
//! same key at the same time the first one inserts the key, and the others wait for its transaction at the primary key.

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use cgk::{Statements, axum::Problem};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const LENGTH_MAX: usize = 255;

/// The header `Idempotency-Key`, if there is one: 1 to 255 visible characters. 400 otherwise.
#[derive(Clone, Debug)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let (first, second) = (values.next(), values.next());
        let Some(value) = first else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default();
        let fits = (1..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        match (fits, second) {
            (true, None) => Ok(Self(Some(text.to_owned()))),
            _ => Err(Problem::new(StatusCode::BAD_REQUEST)
                .detail("Idempotency-Key must be there once, with 1 to 255 visible characters")),
        }
    }
}

/// A request that is carried out once.
pub struct Once {
    key: IdempotencyKey,
    /// Method and path: a key counts for one of them.
    operation: String,
    request_hash: [u8; 32],
}

impl Once {
    pub fn new(key: IdempotencyKey, operation: String, request_hash: [u8; 32]) -> Self {
        Self { key, operation, request_hash }
    }

    /// What was answered before, or what the creation answers now, which is written down in this transaction.
    ///
    /// 422 if the key came with another body before.
    pub async fn answer(
        &self,
        tx: &impl Statements,
        create: impl Future<Output = Result<Created, Problem>>,
    ) -> Result<Created, Problem> {
        if let Some(before) = self.answered(tx).await? {
            return Ok(before);
        }
        let created = create.await?;
        self.record(tx, &created).await?;
        Ok(created)
    }

    /// `None` if the request is to be carried out.
    async fn answered(&self, tx: &impl Statements) -> Result<Option<Created>, Problem> {
        let IdempotencyKey(Some(key)) = &self.key else { return Ok(None) };
        let claim =
            "insert into idempotency_keys (operation, key, request_hash) values ($1, $2, $3) on conflict do nothing";
        if tx.execute(claim, &[&self.operation, key, &self.request_hash.as_slice()]).await? == 1 {
            return Ok(None);
        }
        let find = "select request_hash, response from idempotency_keys where operation = $1 and key = $2";
        let row = tx.query_opt(find, &[&self.operation, key]).await?;
        // It was removed by age just now.
        let row = row.ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail("ask again"))?;
        if row.try_get::<_, &[u8]>(0)? != self.request_hash {
            return Err(another_body());
        }
        let stored = serde_json::from_value::<Created>(row.try_get(1)?);
        let stored = stored.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR).caused_by(error))?;
        Ok(Some(Created { replayed: true, ..stored }))
    }

    async fn record(&self, tx: &impl Statements, created: &Created) -> Result<(), Problem> {
        let IdempotencyKey(Some(key)) = &self.key else { return Ok(()) };
        let response = serde_json::to_value(created).expect("a created record is JSON");
        let record = "update idempotency_keys set response = $3 where operation = $1 and key = $2";
        tx.execute(record, &[&self.operation, key, &response]).await?;
        Ok(())
    }
}

/// The answer where a key came with another body before.
pub fn another_body() -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY).detail("this Idempotency-Key came with another body before")
}

/// The answer to a creation: 201 with the record, its place and its state.
#[derive(Debug, Serialize, Deserialize)]
pub struct Created {
    location: String,
    etag: i64,
    record: Value,
    #[serde(skip)]
    replayed: bool,
}

impl Created {
    pub fn new(location: String, etag: i64, record: &impl Serialize) -> Self {
        let record = serde_json::to_value(record).expect("a record is JSON");
        Self { location, etag, record, replayed: false }
    }
}

impl IntoResponse for Created {
    fn into_response(self) -> Response {
        let etag = super::etag::ETag::of(self.etag).to_value();
        let mut response =
            (StatusCode::CREATED, [(header::LOCATION, self.location)], [(header::ETAG, etag)], Json(self.record))
                .into_response();
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}
