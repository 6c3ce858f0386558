//! The features of a tenant in one environment, as they were at one moment.

use super::{
    environment::Environment,
    evaluate::{Evaluation, Feature},
    subject::Subject,
};
use crate::tenant::OrganizationId;
use std::collections::HashMap;

/// The features of a tenant in one environment, as they were at one moment. Evaluating one sends nothing and waits for nothing.
#[derive(Clone, Debug)]
pub struct Snapshot {
    environment: Environment,
    organization: OrganizationId,
    is_notified: bool,
    features: HashMap<String, Feature>,
}

impl Snapshot {
    pub(super) fn new(
        environment: Environment,
        organization: OrganizationId,
        is_notified: bool,
        features: Vec<Feature>,
    ) -> Self {
        let features = features.into_iter().map(|feature| (feature.key.clone(), feature)).collect();
        Self { environment, organization, is_notified, features }
    }

    /// Evaluates a feature for a subject; `None`: there is no such feature.
    ///
    /// An organization whose plan does not include a feature of kind plan does not have it. Otherwise the first rule of the
    /// environment whose conditions all hold decides, and where there is none, the feature itself.
    pub fn evaluate(&self, key: &str, subject: &Subject) -> Option<Evaluation<'_>> {
        self.features.get(key).map(|feature| feature.evaluate(subject))
    }

    /// Returns whether a feature is on for a subject; one that is not there is off.
    pub fn is_on(&self, key: &str, subject: &Subject) -> bool {
        self.evaluate(key, subject).is_some_and(|evaluation| evaluation.is_on)
    }

    /// The keys of all features, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.features.keys().map(String::as_str)
    }

    /// The environment.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Whose features they are.
    pub fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// Whether the database notifies of changes of what was loaded: the triggers are there and on.
    pub(super) fn is_notified(&self) -> bool {
        self.is_notified
    }
}
