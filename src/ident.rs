//! Names of database objects; the one place where an identifier is quoted.

use crate::slug::TenantSlug;
use sha2::{Digest, Sha256};
use std::fmt;

/// PostgreSQL's limit for an identifier, in bytes (`NAMEDATALEN - 1`).
pub const IDENT_BYTES_MAX: usize = 63;

const SCHEMA_PREFIX: &str = "tenant_";
const ROLE_PREFIX: &str = "cgk_";
/// Hexadecimal digits of the database's name that a role name carries.
const ROLE_TAG_BYTES: usize = 10;

const _: () = assert!(SCHEMA_PREFIX.len() + TenantSlug::BYTES_MAX <= IDENT_BYTES_MAX);
const _: () = assert!(ROLE_PREFIX.len() + TenantSlug::BYTES_MAX + 1 + ROLE_TAG_BYTES <= IDENT_BYTES_MAX);

/// A name as the catalogue holds it. It has no `Display`: text for SQL comes from [`Ident::quoted`], text for people from
/// [`Ident::as_str`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ident(String);

impl Ident {
    /// Takes a name that came out of the catalogue or was made here; longer than 63 bytes or with a zero byte it is
    /// refused, because the server would cut it off or read no further.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidIdent> {
        let name = name.into();
        if name.is_empty() || name.len() > IDENT_BYTES_MAX || name.contains('\0') {
            return Err(InvalidIdent { name });
        }
        Ok(Self(name))
    }

    /// The name for people and for comparison with the catalogue.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name for SQL text: in double quotes, those inside doubled.
    ///
    /// ```
    /// let name = cgk::ident::Ident::new("a\"b")?;
    /// assert_eq!(name.quoted(), "\"a\"\"b\"");
    /// # Ok::<(), cgk::ident::InvalidIdent>(())
    /// ```
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A name that PostgreSQL would not keep as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a valid identifier: it must have 1 to 63 bytes and no zero byte")]
pub struct InvalidIdent {
    /// The name as given.
    pub name: String,
}

/// The name of a schema: the shared one or a tenant's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaName(Ident);

impl SchemaName {
    /// The shared schema, `public`.
    pub fn public() -> Self {
        Self(Ident("public".into()))
    }

    /// The tenant's schema, `tenant_<slug>`.
    ///
    /// ```
    /// use cgk::ident::SchemaName;
    /// let schema = SchemaName::of_tenant(&"acme".parse()?);
    /// assert_eq!(schema.as_str(), "tenant_acme");
    /// # Ok::<(), cgk::InvalidSlug>(())
    /// ```
    pub fn of_tenant(slug: &TenantSlug) -> Self {
        Self(Ident(format!("{SCHEMA_PREFIX}{slug}")))
    }

    /// A name that no tenant can have, for a schema that is rolled back.
    pub(crate) fn scratch() -> Self {
        Self(Ident(format!("cgk_rehearsal_{:08x}", rand::random::<u32>())))
    }

    /// The schema of a rehearsal that is committed file by file.
    pub(crate) fn rehearsal() -> Self {
        Self(Ident("cgk_rehearsal".into()))
    }

    /// The name for people and for comparison with the catalogue.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name for SQL text.
    pub fn quoted(&self) -> String {
        self.0.quoted()
    }

    /// A relation of this schema for SQL text.
    pub(crate) fn qualified(&self, relation: &str) -> String {
        format!("{}.{}", self.quoted(), Ident(relation.into()).quoted())
    }
}

/// The name of a tenant's role. Roles belong to the whole cluster, so the name carries the database as well: staging and
/// production on one server do not share a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(Ident);

impl RoleName {
    /// The role that may use the tenant's schema in the database of that tag.
    pub fn of_tenant(slug: &TenantSlug, database: &DatabaseTag) -> Self {
        Self(Ident(format!("{ROLE_PREFIX}{slug}_{}", database.0)))
    }

    /// A role that every server has, to stand for a tenant's in a schema that is rolled back. It gets nothing that lasts.
    pub(crate) fn stand_in() -> Self {
        Self(Ident("pg_stat_scan_tables".into()))
    }

    /// The name for people and for comparison with the catalogue.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name for SQL text.
    pub fn quoted(&self) -> String {
        self.0.quoted()
    }

    /// The name itself.
    pub(crate) fn ident(&self) -> &Ident {
        &self.0
    }
}

/// What stands for a database in the names of its roles: ten hexadecimal digits. At the first setup they are the beginning of
/// the sha256 of the database's name, unless roles of another database carry that already, and are written down.
///
/// A database that is renamed keeps them. A copy is refused until `cgk setup:database --new-identity` has given it its own.
///
/// ```
/// let tag = cgk::ident::DatabaseTag::of("shop");
/// assert_eq!(tag.as_str(), "8d9001d32c"); // pinned: a change of the derivation would orphan every role
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DatabaseTag(String);

impl DatabaseTag {
    /// The tag of the database with this name.
    pub fn of(database: &str) -> Self {
        let mut tag = hex(&Sha256::digest(database.as_bytes()));
        tag.truncate(ROLE_TAG_BYTES);
        Self(tag)
    }

    /// A tag that was written down: ten hexadecimal digits.
    pub(crate) fn recorded(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == ROLE_TAG_BYTES && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// A tag that nobody has.
    pub(crate) fn random() -> Self {
        let mut tag = hex(&rand::random::<[u8; 8]>());
        tag.truncate(ROLE_TAG_BYTES);
        Self(tag)
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name out of the catalogue, quoted for a statement that a person is to run. One that no identifier can be stays as it is.
pub(crate) fn quoted(name: &str) -> String {
    Ident::new(name).map_or_else(|_| name.to_owned(), |name| name.quoted())
}

/// A string literal for SQL text; only for text that cannot be a bind because it stands in a simple-query message.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_longest_slug_fit() {
        let slug: TenantSlug = "z".repeat(48).parse().unwrap();
        assert_eq!(SchemaName::of_tenant(&slug).as_str().len(), 55);
        assert_eq!(RoleName::of_tenant(&slug, &DatabaseTag::of("shop")).as_str().len(), 63);
    }

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r" E'a\\''b'");
    }

    #[test]
    fn names_the_server_would_change_are_refused() {
        assert!(Ident::new("").is_err() && Ident::new("a\0b").is_err() && Ident::new("x".repeat(64)).is_err());
    }
}
