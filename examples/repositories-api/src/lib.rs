//! A tenant-safe HTTP service on cgk: organizations, repositories inside them, and jobs on repositories.
//!
//! [`routes::router`] is the service, [`worker::Worker`] does its jobs, [`demo`] starts both on a throw-away server.

pub mod app;
pub mod connections;
pub mod demo;
pub mod health;
pub mod http;
pub mod jobs;
pub mod openapi;
pub mod organizations;
pub mod repositories;
pub mod routes;
pub mod serve;
pub mod settings;
pub mod sign_in;
pub mod summary;
pub mod worker;
