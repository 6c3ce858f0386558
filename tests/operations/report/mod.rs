//! `cgk report`: its figures are those of the database, for every state of a tenant and for a large fleet, and it writes
//! nothing.

mod command;
mod fleet;
mod large;
mod page;
mod serve;
mod states;
