//! The objects of cgk's own in `public` that are read before it is known whether a setup has created them. The
//! catalogue is queried first, so that no statement fails in a database without them. Each failure would be an error in
//! the server's log.

/// An object of cgk's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnObject {
    /// `public.cgk_database_tag()`
    DatabaseTag,
    /// `public.cgk_isolation_modes()`
    IsolationModes,
    /// `public.cgk_migration_files`
    MigrationFiles,
    /// `public.cgk_references`
    References,
    /// `public.organizations`
    Registry,
}

impl OwnObject {
    const ALL: [Self; 5] =
        [Self::DatabaseTag, Self::IsolationModes, Self::MigrationFiles, Self::References, Self::Registry];

    /// Returns a condition: the object exists. It does not use `to_regclass`, which would need the right to use
    /// `public`.
    pub(super) fn exists_sql(self) -> String {
        let (catalogue, prefix, name) = match self {
            Self::DatabaseTag => ("pg_proc", "pro", "cgk_database_tag"),
            Self::IsolationModes => ("pg_proc", "pro", "cgk_isolation_modes"),
            Self::MigrationFiles => ("pg_class", "rel", "cgk_migration_files"),
            Self::References => ("pg_class", "rel", "cgk_references"),
            Self::Registry => ("pg_class", "rel", "organizations"),
        };
        format!(
            "exists (select from pg_catalog.{catalogue} x join pg_catalog.pg_namespace n on n.oid = x.{prefix}namespace
                     where n.nspname = 'public' and x.{prefix}name = '{name}')"
        )
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// The objects that existed at the time of the check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnObjects(u8);

impl OwnObjects {
    /// Returns an expression for a number that shows which objects exist.
    pub(super) fn sql() -> String {
        let each =
            OwnObject::ALL.map(|object| format!("case when {} then {} else 0 end", object.exists_sql(), object.bit()));
        format!("({})", each.join(" + "))
    }

    pub(super) fn of(bits: i32) -> Self {
        Self(u8::try_from(bits).unwrap_or_default())
    }

    pub(super) fn has(self, object: OwnObject) -> bool {
        self.0 & object.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_has_its_own_bit() {
        let bits: Vec<u8> = OwnObject::ALL.iter().map(|object| object.bit()).collect();
        assert_eq!(bits, [1, 2, 4, 8, 16]);
        let some = OwnObjects::of(1 + 8);
        assert!(some.has(OwnObject::DatabaseTag) && some.has(OwnObject::References) && !some.has(OwnObject::Registry));
    }
}
