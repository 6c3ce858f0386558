//! The parameter types of statements, as the server reported them. With these types, the client can send a statement in
//! one round trip.
//!
//! These are descriptions, not plans. The server parses and plans each statement when it runs, with the current tables,
//! search path and settings. Therefore an entry that a migration makes outdated is not a risk. No text remains in a
//! session for the next tenant to read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_postgres::{
    Client, Error,
    types::{ToSql, Type},
};

/// Parameters, each with its type.
pub(super) type Typed<'p> = Vec<(&'p (dyn ToSql + Sync), Type)>;

/// The types of one statement's parameters.
pub(super) struct Described {
    types: Arc<[Type]>,
    origin: TypesFrom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TypesFrom {
    /// The server has just reported the types.
    Server,
    /// The server reported the types earlier. A migration may have changed them since.
    Before,
}

impl Described {
    pub(super) fn is_from_before(&self) -> bool {
        self.origin == TypesFrom::Before
    }

    pub(super) fn typed<'p>(&self, params: &'p [&'p (dyn ToSql + Sync)]) -> Typed<'p> {
        params.iter().copied().zip(self.types.iter().cloned()).collect()
    }
}

/// A cache of descriptions by text and tenant. Each tenant has separate entries, because its own types differ from
/// those of other tenants.
///
/// Two generations limit the size. A used entry moves to the young generation. When the young generation contains half
/// of the maximum, the old one is dropped and the young one becomes the old one.
pub(super) struct Descriptions {
    generations: Mutex<Generations>,
    half_max: usize,
}

#[derive(Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

type ByTenant = HashMap<Box<str>, Arc<[Type]>>;

#[derive(Default)]
struct Generation {
    by_text: HashMap<Box<str>, ByTenant>,
    len: usize,
}

impl Descriptions {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { generations: Mutex::default(), half_max: entries_max.div_ceil(2) }
    }

    /// Returns the known types of a statement. A statement without parameters needs no query.
    pub(super) fn known(&self, tenant: &str, sql: &str, params: usize) -> Option<Described> {
        if params == 0 {
            return Some(Described { types: [].into(), origin: TypesFrom::Server });
        }
        let types = self.get(tenant, sql).filter(|types| types.len() == params)?;
        Some(Described { types, origin: TypesFrom::Before })
    }

    /// Asks the server for the types of a statement's parameters. For this, the statement is prepared under a name. The
    /// name is released with the next message.
    ///
    /// # Errors
    ///
    /// The server's error for the statement. If the number of parameters differs, the driver's error.
    pub(super) async fn learn(
        &self,
        client: &Client,
        tenant: &str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Described, Error> {
        let statement = client.prepare(sql).await?;
        if statement.params().len() != params.len() {
            // This call fails: the driver refuses it with its own message.
            client.execute(&statement, params).await?;
        }
        let types: Arc<[Type]> = statement.params().into();
        self.put(tenant, sql, Arc::clone(&types));
        Ok(Described { types, origin: TypesFrom::Server })
    }

    fn get(&self, tenant: &str, sql: &str) -> Option<Arc<[Type]>> {
        let mut generations = self.lock();
        if let Some(types) = generations.young.get(tenant, sql) {
            return Some(types);
        }
        let types = generations.old.get(tenant, sql)?;
        generations.put(tenant, sql, Arc::clone(&types), self.half_max);
        Some(types)
    }

    fn put(&self, tenant: &str, sql: &str, types: Arc<[Type]>) {
        self.lock().put(tenant, sql, types, self.half_max);
    }

    pub(super) fn forget(&self, tenant: &str, sql: &str) {
        let mut generations = self.lock();
        generations.young.remove(tenant, sql);
        generations.old.remove(tenant, sql);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // The value is consistent after every call. So it can be used after a panic of other code that had the lock.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn put(&mut self, tenant: &str, sql: &str, types: Arc<[Type]>, half_max: usize) {
        if half_max == 0 {
            return;
        }
        self.young.put(tenant, sql, types);
        if self.young.len >= half_max {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

impl Generation {
    fn get(&self, tenant: &str, sql: &str) -> Option<Arc<[Type]>> {
        self.by_text.get(sql)?.get(tenant).cloned()
    }

    fn put(&mut self, tenant: &str, sql: &str, types: Arc<[Type]>) {
        let tenants = match self.by_text.get_mut(sql) {
            Some(tenants) => tenants,
            None => self.by_text.entry(sql.into()).or_default(),
        };
        if tenants.insert(tenant.into(), types).is_none() {
            self.len += 1;
        }
    }

    fn remove(&mut self, tenant: &str, sql: &str) {
        if let Some(tenants) = self.by_text.get_mut(sql)
            && tenants.remove(tenant).is_some()
        {
            self.len -= 1;
            if tenants.is_empty() {
                self.by_text.remove(sql);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(types: &[Type]) -> Arc<[Type]> {
        types.into()
    }

    #[test]
    fn each_tenant_has_its_own() {
        let known = Descriptions::new(10);
        known.put("acme", "select $1", types(&[Type::INT4]));
        known.put("globex", "select $1", types(&[Type::TEXT]));
        assert_eq!(known.get("acme", "select $1").as_deref(), Some(&[Type::INT4][..]));
        assert_eq!(known.get("globex", "select $1").as_deref(), Some(&[Type::TEXT][..]));
        assert!(known.get("acme", "select $2").is_none());
        known.forget("acme", "select $1");
        assert!(known.get("acme", "select $1").is_none());
        assert!(known.get("globex", "select $1").is_some());
        known.forget("acme", "select $1");
        assert_eq!(known.lock().young.len, 1, "what is not there is not forgotten");
        // An unused text is removed completely, and its space is available again.
        known.forget("globex", "select $1");
        let generations = known.lock();
        assert!(generations.young.len == 0 && generations.young.by_text.is_empty());
    }

    #[test]
    fn no_more_are_kept_than_allowed_and_the_ones_in_use_stay() {
        let known = Descriptions::new(10);
        known.put("hot", "select $1", types(&[Type::INT4]));
        for n in 0..100 {
            known.put("acme", &format!("select $1 + {n}"), types(&[Type::INT4]));
            assert!(known.get("hot", "select $1").is_some(), "round {n}");
            let generations = known.lock();
            assert!(generations.young.len + generations.old.len <= 10);
        }
        assert!(known.get("acme", "select $1 + 0").is_none());
        assert!(Descriptions::new(0).get("acme", "").is_none());
    }
}
