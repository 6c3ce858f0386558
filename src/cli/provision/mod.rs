//! The commands about the queue of tenants to be created.

pub(crate) mod list;
pub(crate) mod retry;
pub(crate) mod run;

use anyhow::Result;
use cgk::{
    Db,
    provisioning::{Provisioning, ProvisioningRequest},
};
use serde::Serialize;

use super::{session::Session, ui::time};

/// A request, as JSON.
#[derive(Serialize)]
struct RequestView<'a> {
    request: String,
    tenant: &'a str,
    status: &'a str,
    attempts: u32,
    /// The time from which a pending request may be tried again.
    attempt_at: Option<String>,
    code: Option<&'a str>,
    error: Option<&'a str>,
    created_at: String,
    finished_at: Option<String>,
}

impl<'a> RequestView<'a> {
    fn of(request: &'a ProvisioningRequest) -> Self {
        let failure = request.failure.as_ref();
        Self {
            request: request.id.to_string(),
            tenant: &request.slug,
            status: request.status.as_str(),
            attempts: request.attempts,
            attempt_at: request.finished_at.is_none().then(|| time::rfc3339(request.attempt_at)),
            code: failure.map(|failure| failure.code.as_str()),
            error: failure.map(|failure| failure.message.as_str()),
            created_at: time::rfc3339(request.created_at),
            finished_at: request.finished_at.map(time::rfc3339),
        }
    }
}

async fn open(session: &Session<'_>) -> Result<Provisioning> {
    Ok(Provisioning::new(&Db::connect(&session.config()?).await?))
}
