//! `cgk init` and the templates: what is written, and that each template keeps its promises on a real server.

mod adding;
mod again;
mod analytics;
mod analytics_json;
mod analytics_values;
mod examples;
mod init;
mod stage;
mod support;
mod upgrade;
mod workflow;
mod workspace;
