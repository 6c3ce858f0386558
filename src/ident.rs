//! Names of database objects. This is the only file that quotes identifiers.

use crate::slug::TenantSlug;
use sha2::{Digest, Sha256};
use std::fmt;

/// PostgreSQL's limit for an identifier, in bytes (`NAMEDATALEN - 1`).
pub const IDENT_BYTES_MAX: usize = 63;

const SCHEMA_PREFIX: &str = "tenant_";
const ROLE_PREFIX: &str = "cgk_";
/// The prefix of the names of schemas that are ready for new tenants; eight hexadecimal digits follow.
#[cfg(feature = "migrate")]
const WARM_PREFIX: &str = "cgk_warm_";
/// The number of hexadecimal digits of the database's tag in a role name.
const ROLE_TAG_BYTES: usize = 10;

const _: () = assert!(SCHEMA_PREFIX.len() + TenantSlug::BYTES_MAX <= IDENT_BYTES_MAX);
const _: () = assert!(ROLE_PREFIX.len() + TenantSlug::BYTES_MAX + 1 + ROLE_TAG_BYTES <= IDENT_BYTES_MAX);

/// A name as stored in the catalogue. It has no `Display`. Use [`Ident::quoted`] for SQL text and [`Ident::as_str`] for
/// display.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ident(String);

impl Ident {
    /// Creates a name from the catalogue or from cgk. A name longer than 63 bytes, or with a zero byte, is refused,
    /// because the server would truncate it.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidIdent> {
        let name = name.into();
        if name.is_empty() || name.len() > IDENT_BYTES_MAX || name.contains('\0') {
            return Err(InvalidIdent { name });
        }
        Ok(Self(name))
    }

    /// Returns the name, for display and for comparison with the catalogue.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name for SQL text: in double quotes, with inner quotes doubled.
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

/// The error for a name that PostgreSQL would not store unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a valid identifier: it must have 1 to 63 bytes and no zero byte")]
pub struct InvalidIdent {
    /// The given name.
    pub name: String,
}

/// The name of a schema: the shared one or a tenant's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaName(Ident);

impl SchemaName {
    /// Returns the shared schema, `public`.
    pub fn public() -> Self {
        Self(Ident("public".into()))
    }

    /// Returns the tenant's schema, `tenant_<slug>`.
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

    /// Returns a name that no tenant can have, for a schema that is rolled back.
    pub(crate) fn scratch() -> Self {
        Self(Ident(format!("cgk_rehearsal_{:08x}", rand::random::<u32>())))
    }

    /// A name that no tenant can have, for a schema that is ready for a new tenant.
    #[cfg(feature = "migrate")]
    pub(crate) fn warm() -> Self {
        Self(Ident(format!("{WARM_PREFIX}{:08x}", rand::random::<u32>())))
    }

    /// Such a name that was recorded; `None` if it is another one.
    #[cfg(feature = "migrate")]
    pub(crate) fn of_warm(name: &str) -> Option<Self> {
        let digits = name.strip_prefix(WARM_PREFIX)?;
        let is_warm = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_warm.then(|| Self(Ident(name.to_owned())))
    }

    /// Returns the schema of a rehearsal that is committed file by file.
    pub(crate) fn rehearsal() -> Self {
        Self(Ident("cgk_rehearsal".into()))
    }

    /// Returns the name, for display and for comparison with the catalogue.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the name for SQL text.
    pub fn quoted(&self) -> String {
        self.0.quoted()
    }

    /// Returns a relation of this schema for SQL text.
    pub(crate) fn qualified(&self, relation: &str) -> String {
        format!("{}.{}", self.quoted(), Ident(relation.into()).quoted())
    }
}

/// The name of a tenant's role. Roles belong to the complete server, so the name also contains the database's tag.
/// Therefore staging and production on one server do not share a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(Ident);

impl RoleName {
    /// Returns the role that may use the tenant's schema in the database with that tag.
    pub fn of_tenant(slug: &TenantSlug, database: &DatabaseTag) -> Self {
        Self(Ident(format!("{ROLE_PREFIX}{slug}_{}", database.0)))
    }

    /// Returns the role that reads the shared tables for one person, or for support staff, in the database with that
    /// tag. No tenant has a role of this name, because a slug starts with a letter.
    pub(crate) fn of_reader(reader: Reader, database: &DatabaseTag) -> Self {
        let kind = match reader {
            Reader::User => "user",
            Reader::Admin => "admin",
        };
        Self(Ident(format!("{ROLE_PREFIX}_{kind}_{}", database.0)))
    }

    /// The role of a schema that is ready for a new tenant. No tenant has a role of this name, because a slug begins
    /// with a letter.
    #[cfg(feature = "migrate")]
    pub(crate) fn of_warm(schema: &SchemaName, database: &DatabaseTag) -> Self {
        let number = schema.as_str().trim_start_matches(WARM_PREFIX);
        Self(Ident(format!("{ROLE_PREFIX}_warm_{number}_{}", database.0)))
    }

    /// Returns a role that exists on every server. It replaces a tenant's role in a schema that is rolled back, and
    /// gets no permanent rights.
    pub(crate) fn placeholder() -> Self {
        Self(Ident("pg_stat_scan_tables".into()))
    }

    /// Returns the name, for display and for comparison with the catalogue.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the name for SQL text.
    pub fn quoted(&self) -> String {
        self.0.quoted()
    }

    /// Returns the name itself.
    pub(crate) fn ident(&self) -> &Ident {
        &self.0
    }
}

/// Who reads the shared tables with a separate role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A person, who reads the organizations of which it is a member.
    User,
    /// Support staff, who read all organizations.
    Admin,
}

/// Represents a database in the names of its roles: ten hexadecimal digits. The first setup records the first digits of
/// the sha256 of the database's name, or other digits if roles of another database already have these.
///
/// A rename of the database does not change them. A copy is refused until `cgk setup:database --new-identity` has
/// recorded its own.
///
/// ```
/// let tag = cgk::ident::DatabaseTag::of("shop");
/// assert_eq!(tag.as_str(), "8d9001d32c"); // pinned: a change of the derivation would orphan every role
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DatabaseTag(String);

impl DatabaseTag {
    /// Returns the tag of the database with this name.
    pub fn of(database: &str) -> Self {
        let mut tag = hex(&Sha256::digest(database.as_bytes()));
        tag.truncate(ROLE_TAG_BYTES);
        Self(tag)
    }

    /// Returns a recorded tag; `None` if the text is not ten hexadecimal digits.
    pub(crate) fn recorded(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == ROLE_TAG_BYTES && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// Returns a random tag, which no other database has.
    pub(crate) fn random() -> Self {
        let mut tag = hex(&rand::random::<[u8; 8]>());
        tag.truncate(ROLE_TAG_BYTES);
        Self(tag)
    }

    /// Returns the tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Quotes a name from the catalogue for a statement that a person runs. A name that cannot be an identifier is not
/// changed.
pub(crate) fn quoted(name: &str) -> String {
    Ident::new(name).map_or_else(|_| name.to_owned(), |name| name.quoted())
}

/// Returns a string literal for SQL text. Use it only for text that cannot be a bind because it is in a simple-query
/// message.
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

    #[cfg(feature = "migrate")]
    #[test]
    fn names_of_ready_schemas_are_no_tenants() {
        let schema = SchemaName::warm();
        assert_eq!(SchemaName::of_warm(schema.as_str()), Some(schema.clone()));
        assert!(schema.as_str().strip_prefix(SCHEMA_PREFIX).is_none());
        let role = RoleName::of_warm(&schema, &DatabaseTag::of("shop"));
        let slug = role.as_str().strip_prefix(ROLE_PREFIX).and_then(|rest| rest.strip_suffix("_8d9001d32c")).unwrap();
        assert!(slug.parse::<TenantSlug>().is_err() && slug.len() == "_warm_01234567".len(), "{slug}");
        for other in ["public", "tenant_acme", "cgk_warm_", "cgk_warm_1234567", "cgk_warm_1234567g", "cgk_rehearsal"] {
            assert_eq!(SchemaName::of_warm(other), None, "{other}");
        }
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
