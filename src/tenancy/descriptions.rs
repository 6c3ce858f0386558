//! The parameter types of statements, as the server told them: what a client has to know of a statement to send it in one go.
//!
//! Descriptions and not plans. The server parses and plans each statement when it runs, with the tables, the search path and
//! the settings of that moment, so nothing it works with can be older than a migration, and no text stays in a session for
//! the next tenant to read.

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
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The server has just said so.
    Server,
    /// It said so earlier; a migration may have changed it since.
    Before,
}

impl Described {
    pub(super) fn is_from_before(&self) -> bool {
        self.origin == Origin::Before
    }

    pub(super) fn typed<'p>(&self, params: &'p [&'p (dyn ToSql + Sync)]) -> Typed<'p> {
        params.iter().copied().zip(self.types.iter().cloned()).collect()
    }
}

/// Descriptions by text and tenant: types of a tenant's own differ from tenant to tenant.
///
/// Bounded by two generations. What is asked for moves to the young one; once that holds half of the most there may be, the
/// old one is dropped and the young one grows old.
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

    /// What is known of a statement; a statement without parameters needs no asking.
    pub(super) fn known(&self, tenant: &str, sql: &str, params: usize) -> Option<Described> {
        if params == 0 {
            return Some(Described { types: [].into(), origin: Origin::Server });
        }
        let types = self.get(tenant, sql).filter(|types| types.len() == params)?;
        Some(Described { types, origin: Origin::Before })
    }

    /// Asks the server for the types of a statement's parameters. It is prepared for that by a name, and the name is given up
    /// with whatever is sent next.
    ///
    /// # Errors
    ///
    /// What the server says of the statement, or the driver of another number of parameters.
    pub(super) async fn learn(
        &self,
        client: &Client,
        tenant: &str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Described, Error> {
        let statement = client.prepare(sql).await?;
        if statement.params().len() != params.len() {
            // The driver refuses it, in words of its own.
            client.execute(&statement, params).await?;
        }
        let types: Arc<[Type]> = statement.params().into();
        self.put(tenant, sql, Arc::clone(&types));
        Ok(Described { types, origin: Origin::Server })
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
        // Whole after every call, so a panic elsewhere under the lock leaves nothing half done.
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
        // Nothing stays of a text that nobody uses, and none of the room is lost.
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
