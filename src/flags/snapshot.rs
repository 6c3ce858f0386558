//! The features of a tenant in one environment, at one point in time.

use super::{
    environment::Environment,
    evaluate::{Evaluation, Feature},
    subject::Subject,
};
use crate::tenant::OrganizationId;
use std::collections::HashMap;

/// The features of a tenant in one environment, at one point in time. An evaluation sends no query and does not wait.
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

    /// Evaluates a feature for a subject. Returns `None` if the feature does not exist.
    ///
    /// A feature of kind plan is off if the organization's plan does not include it. Otherwise the first rule of the
    /// environment whose conditions all hold decides. If there is no such rule, the feature itself decides.
    pub fn evaluate(&self, key: &str, subject: &Subject) -> Option<Evaluation<'_>> {
        self.features.get(key).map(|feature| feature.evaluate(subject))
    }

    /// Returns whether a feature is on for a subject. A feature that does not exist is off.
    pub fn is_on(&self, key: &str, subject: &Subject) -> bool {
        self.evaluate(key, subject).is_some_and(|evaluation| evaluation.is_on)
    }

    /// Returns the keys of all features, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.features.keys().map(String::as_str)
    }

    /// Returns the environment.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns the organization that the features belong to.
    pub fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// Returns whether the database sends notifications of changes to the loaded data: the triggers exist and are
    /// enabled.
    pub(super) fn is_notified(&self) -> bool {
        self.is_notified
    }
}
