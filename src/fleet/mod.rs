//! Work over many tenants: which tenants, on how many connections, in which order, what is retried, and how it stops early.
//!
//! An operation over many tenants implements [`worker::TenantWork`], one attempt at one tenant, and passes its jobs to a
//! [`worker::WorkerPool`]. The operation itself queries the registry for its tenants, filtered by a
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
