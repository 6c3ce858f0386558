//! Work over many tenants: which tenants, on how many connections, in which order, what is tried again, and how all of it
//! ends early.
//!
//! A verb over many tenants implements [`worker::TenantWork`], one attempt at one tenant, and hands its jobs to a
//! [`worker::WorkerPool`]. Which tenants there are is the verb's own question to the registry, cut down by a
//! [`selection::Selection`].

pub(crate) mod backoff;
pub(crate) mod cancel;
pub(crate) mod connection;
pub(crate) mod interrupt;
pub(crate) mod queue;
pub(crate) mod selection;
pub(crate) mod stop;
pub(crate) mod worker;
