//! The service over HTTP, on a real database.

mod cancel;
mod contract;
mod jobs;
mod matrix;
mod migrations;
mod organizations;
mod provider;
mod repositories;
mod shutdown;
mod sign_in;
mod slow;
mod stage;
