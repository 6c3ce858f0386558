//! The context of a request: where it is reachable, what it does to a transaction, and what it never does.

mod carried;
mod ownership;
mod transactions;
