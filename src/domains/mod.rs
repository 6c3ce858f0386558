//! The custom domains of organizations, in the table `organization_domains` of the shared schema.
//!
//! A domain is first claimed and then verified; only a verified domain is used. [`TenantRules::verified_domains`] makes
//! [`tenant_from_request`] look up hosts in the table, through the [`Resolver`]. The resolver's cached answer is
//! removed as soon as a domain is verified, removed or moved to another organization.
//!
//! Any number of organizations may claim a domain, so a claim cannot block another organization. Only one of them can
//! have it verified. cgk sends no DNS queries. Before you call [`Domains::verify`], check that the owner of the domain
//! has published the [`verification_token`](Domain::verification_token) of this claim, for instance as the TXT record
//! of `_cgk.<domain>`.
//!
//! ```no_run
//! use cgk::domains::{DomainError, DomainName, Domains};
//!
//! # async fn has_record(name: &str, token: &str) -> bool { true }
//! async fn connect_shop(db: &cgk::Db, acme: cgk::OrganizationId) -> Result<(), DomainError> {
//!     let domains = Domains::new(db);
//!     let shop: DomainName = "Shop.Example.com".parse()?; // shop.example.com
//!     let claimed = domains.add(acme, &shop).await?;
//!     // … later, when the owner says that the record is there:
//!     if has_record(&format!("_cgk.{shop}"), &claimed.verification_token).await {
//!         domains.verify(acme, &shop).await?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`TenantRules::verified_domains`]: crate::request::TenantRules::verified_domains
//! [`tenant_from_request`]: crate::request::tenant_from_request
//! [`Resolver`]: crate::resolver::Resolver

mod error;
mod name;

pub use error::{DomainError, Result};
pub use name::{DomainName, InvalidDomain};

use crate::{
    ident::hex,
    slug::TenantSlug,
    tenancy::Db,
    tenant::{OrganizationId, TenantStatus},
};
use std::time::SystemTime;
use tokio_postgres::{Row, error::SqlState};

/// The maximum number of domains of an organization, claimed and verified.
const DOMAINS_MAX: i64 = 1000;

/// A domain of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Domain {
    /// The organization.
    pub organization_id: OrganizationId,
    /// The domain.
    pub name: DomainName,
    /// The token that the owner of the domain publishes to prove that this organization may use it.
    pub verification_token: String,
    /// When it was verified; `None`: it is not verified yet.
    pub verified_at: Option<SystemTime>,
    /// When it was claimed.
    pub created_at: SystemTime,
}

/// The operations on custom domains. Cheap to clone.
///
/// Every operation is one transaction of [`Db::platform`]. The login needs rights on the shared tables,
/// `cgk setup:database --app-role NAME --app-tables all`.
#[derive(Clone, Debug)]
pub struct Domains {
    db: Db<DomainError>,
}

const ADD: &str = "insert into public.organization_domains (organization_id, domain, verification_token)
    select o.id, $2::pg_catalog.text, $3::pg_catalog.text from public.organizations o
     where o.id = $1 and (select pg_catalog.count(*) from public.organization_domains d where d.organization_id = $1) < $4
    on conflict (organization_id, domain) do update set domain = excluded.domain
    returning organization_id, domain, verification_token, verified_at, created_at";

const LIST: &str = "select organization_id, domain, verification_token, verified_at, created_at
    from public.organization_domains where organization_id = $1 order by domain collate pg_catalog.\"C\" limit 1000";

const VERIFY: &str = "update public.organization_domains set verified_at = coalesce(verified_at, pg_catalog.now())
    where organization_id = $1 and domain = $2
    returning organization_id, domain, verification_token, verified_at, created_at";

const REMOVE: &str = "delete from public.organization_domains where organization_id = $1 and domain = $2";

const OWNER: &str = "select o.id, o.slug::pg_catalog.text, o.status::pg_catalog.text
    from public.organization_domains d join public.organizations o on o.id = d.organization_id
    where d.domain = $1 and d.verified_at is not null";

impl Domains {
    /// Creates the operations for this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors() }
    }

    /// Claims a domain. It is used after it is [verified](Self::verify). If the organization already has the domain, it
    /// is returned unchanged, with the same token.
    ///
    /// # Locks
    ///
    /// The organization's row against its deletion, for one statement.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not exist. `TooMany`: it has a thousand domains. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the domain may or may not be claimed.
    pub async fn add(&self, organization: OrganizationId, name: &DomainName) -> Result<Domain> {
        let token = hex(&rand::random::<[u8; 16]>());
        let platform = self.db.platform();
        match platform.query_opt(ADD, &[&organization.0, &name.as_str(), &token, &DOMAINS_MAX]).await? {
            Some(row) => read(&row),
            None => {
                let exists = "select from public.organizations where id = $1";
                match platform.query_opt(exists, &[&organization.0]).await? {
                    Some(_) => Err(DomainError::TooMany),
                    None => Err(DomainError::NotFound { what: "organization" }),
                }
            }
        }
    }

    /// Returns the domains of an organization, ordered by name.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn list(&self, organization: OrganizationId) -> Result<Vec<Domain>> {
        self.db.platform().query(LIST, &[&organization.0]).await?.iter().map(read).collect()
    }

    /// Marks a claimed domain as verified. The caller must check that the organization owns the domain: cgk does not
    /// check it.
    ///
    /// # Locks
    ///
    /// The domain, against concurrent verification, for one statement.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has not claimed it. `Taken`: another organization has verified it. `TablesMissing`;
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the domain may or may not be verified.
    pub async fn verify(&self, organization: OrganizationId, name: &DomainName) -> Result<Domain> {
        match self.db.platform().query_opt(VERIFY, &[&organization.0, &name.as_str()]).await {
            Ok(Some(row)) => read(&row),
            Ok(None) => Err(DomainError::NotFound { what: "domain" }),
            Err(DomainError::Database(error)) if error.sqlstate() == Some(&SqlState::UNIQUE_VIOLATION) => {
                Err(DomainError::Taken { name: name.clone() })
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a domain from an organization, verified or not.
    ///
    /// # Locks
    ///
    /// The domain's row, for one statement.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not have it, even if another one does. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the domain may or may not be removed.
    pub async fn remove(&self, organization: OrganizationId, name: &DomainName) -> Result<()> {
        match self.db.platform().execute(REMOVE, &[&organization.0, &name.as_str()]).await? {
            0 => Err(DomainError::NotFound { what: "domain" }),
            _ => Ok(()),
        }
    }

    /// Returns the organization that has verified this domain, with its slug and status.
    pub(crate) async fn owner(&self, name: &DomainName) -> Result<Option<(OrganizationId, TenantSlug, TenantStatus)>> {
        let Some(row) = self.db.platform().query_opt(OWNER, &[&name.as_str()]).await? else { return Ok(None) };
        let slug: &str = row.get(1);
        // A row that is not a tenant has no domain.
        Ok(slug.parse().ok().map(|slug| (row.get(0), slug, TenantStatus::from(row.get::<_, &str>(2)))))
    }
}

fn read(row: &Row) -> Result<Domain> {
    Ok(Domain {
        organization_id: row.get(0),
        name: row.get::<_, &str>(1).parse()?,
        verification_token: row.get(2),
        verified_at: row.get(3),
        created_at: row.get(4),
    })
}
