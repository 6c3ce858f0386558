//! The custom domains of organizations, in the table `organization_domains` of the shared schema.
//!
//! A domain is claimed, then verified, and counts from then on: [`TenantRules::verified_domains`] lets
//! [`tenant_from_request`] find the tenant of a host in the table, through the [`Resolver`], which forgets a domain as soon as
//! it is verified, removed or given to another organization.
//!
//! Any number of organizations may claim a domain, so that a claim keeps nobody out. One of them can have it verified. cgk asks no
//! name server: whoever calls [`Domains::verify`] has seen that the owner of the domain has published the
//! [`verification_token`](Domain::verification_token) of this claim, for instance as the TXT record of `_cgk.<domain>`.
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

/// How many domains an organization may have, claimed and verified.
const DOMAINS_MAX: i64 = 1000;

/// A domain of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Domain {
    /// The organization.
    pub organization_id: OrganizationId,
    /// The domain.
    pub name: DomainName,
    /// What the owner of the domain publishes to prove that this organization may have it.
    pub verification_token: String,
    /// When it was verified; `None`: it does not count yet.
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
    /// The domains of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors() }
    }

    /// Claims a domain. It counts when it is [verified](Self::verify). Where the organization has it already, it is returned as
    /// it is, with the same token.
    ///
    /// # Locks
    ///
    /// The organization's row against its deletion, for one statement.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no such organization. `TooMany`: it has a thousand domains. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been claimed or not.
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

    /// The domains of an organization, by name.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn list(&self, organization: OrganizationId) -> Result<Vec<Domain>> {
        self.db.platform().query(LIST, &[&organization.0]).await?.iter().map(read).collect()
    }

    /// Lets a claimed domain count. The caller has seen that the domain is the organization's: cgk does not look.
    ///
    /// # Locks
    ///
    /// The domain, against others who verify it, for one statement.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has not claimed it. `Taken`: another organization has it verified. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been verified or not.
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

    /// Takes a domain from an organization, verified or not.
    ///
    /// # Locks
    ///
    /// The domain's row, for one statement.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not have it, whether or not another one does. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been removed or not.
    pub async fn remove(&self, organization: OrganizationId, name: &DomainName) -> Result<()> {
        match self.db.platform().execute(REMOVE, &[&organization.0, &name.as_str()]).await? {
            0 => Err(DomainError::NotFound { what: "domain" }),
            _ => Ok(()),
        }
    }

    /// The organization that has this domain verified, with its slug and status.
    pub(crate) async fn owner(&self, name: &DomainName) -> Result<Option<(OrganizationId, TenantSlug, TenantStatus)>> {
        let Some(row) = self.db.platform().query_opt(OWNER, &[&name.as_str()]).await? else { return Ok(None) };
        let slug: &str = row.get(1);
        // A row that is no tenant has no domain.
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
