//! The commands about custom domains of one tenant.

pub(crate) mod add;
pub(crate) mod list;
pub(crate) mod remove;
pub(crate) mod verify;

use anyhow::Result;
use cgk::{
    Tenant,
    domains::{Domain, DomainError, DomainName, Domains},
};
use clap::Args;
use serde::Serialize;

use super::{
    exit::Exit,
    session::Session,
    ui::{report::Refusal, time},
};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// Domain, for example shop.example.com
    domain: String,
}

/// A domain, as JSON.
#[derive(Serialize)]
struct DomainView<'a> {
    domain: &'a str,
    verification_token: &'a str,
    verified_at: Option<String>,
    created_at: String,
}

impl<'a> DomainView<'a> {
    fn of(domain: &'a Domain) -> Self {
        Self {
            domain: domain.name.as_str(),
            verification_token: &domain.verification_token,
            verified_at: domain.verified_at.map(time::rfc3339),
            created_at: time::rfc3339(domain.created_at),
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    domain: DomainView<'a>,
    exit: Exit,
}

/// The operations, and the tenant of the command.
struct Target {
    domains: Domains,
    tenant: Tenant,
}

impl Target {
    async fn open(session: &Session<'_>, slug: &str) -> Result<Self> {
        let (db, tenant) = session.tenant(slug).await?;
        Ok(Self { domains: Domains::new(&db), tenant })
    }

    /// Writes the record of a command about one domain.
    fn record(&self, session: &Session<'_>, domain: &Domain) {
        session.printer.record(&Answer {
            v: crate::cli::JSON_VERSION,
            tenant: self.tenant.slug.as_str(),
            domain: DomainView::of(domain),
            exit: Exit::Done,
        });
    }

    /// Returns the error. If it says that the tenant does not have the domain, it names the domain.
    fn missing(&self, error: DomainError, name: &DomainName) -> anyhow::Error {
        let DomainError::NotFound { .. } = error else { return error.into() };
        let slug = &self.tenant.slug;
        let message = format!("tenant {slug} has no domain {name}");
        Refusal { message, hint: format!("`cgk domain:list {slug}` lists them."), exit: Exit::Failed }.into()
    }
}

/// Parses the domain on a command line.
fn name(text: &str) -> Result<DomainName> {
    text.parse().map_err(|error| {
        let hint =
            "Write the name alone, for example shop.example.com; an internationalized one in its form xn--….".into();
        Refusal { message: format!("{error}"), hint, exit: Exit::Usage }.into()
    })
}
