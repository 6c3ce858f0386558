//! The flags for the speed of a run over many tenants, and for its early stop.

use anyhow::Result;
use cgk::migrate::Canary;
use clap::Args;
use std::num::NonZeroUsize;

use crate::cli::{migrate::run::canary, number};

#[derive(Args, Debug)]
pub(super) struct Pace {
    /// Number of tenants at the same time, two connections each [default: up to 4]
    #[arg(short, long, value_name = "N", value_parser = number::at_least_one)]
    pub(super) jobs: Option<NonZeroUsize>,
    /// Run in N tenants (or the listed ones) first; stop if any of them fails
    #[arg(long, value_name = "N|SLUG,…")]
    canary: Option<String>,
    /// Stop starting tenants after N have failed
    #[arg(long, value_name = "N", value_parser = number::at_least_one)]
    max_failures: Option<NonZeroUsize>,
    /// Stop starting tenants after the first failure
    #[arg(long, conflicts_with = "max_failures")]
    fail_fast: bool,
}

impl Pace {
    /// Returns the canaries.
    pub(super) fn canary(&self) -> Result<Option<Canary>> {
        self.canary.as_deref().map(canary).transpose()
    }

    /// Returns the number of failures after which no further tenant starts.
    pub(super) fn failures_max(&self) -> Option<NonZeroUsize> {
        self.max_failures.or(self.fail_fast.then_some(NonZeroUsize::MIN))
    }
}
