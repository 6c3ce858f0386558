//! Work over many tenants: selection, connections, order, retries, and early stops.
//!
//! An operation over many tenants implements [`worker::TenantWork`], which is one attempt at one tenant. It passes its
//! jobs to a [`worker::WorkerPool`]. The operation itself reads its tenants from the registry, filtered by a
//! [`selection::Selection`].

pub(crate) mod backoff;
pub(crate) mod cancel;
pub(crate) mod connection;
pub(crate) mod interrupt;
pub(crate) mod queue;
pub(crate) mod selection;
pub(crate) mod span;
pub(crate) mod stop;
pub(crate) mod worker;
