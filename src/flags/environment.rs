//! The environments of a project, in which features are switched on and off.

use std::fmt;

/// An environment of a project, identified by its names.
///
/// ```
/// use cgk::flags::{Environment, Stage};
/// assert_eq!(Environment::of(Stage::Prod).to_string(), "default/prod");
/// let web = Environment::of(Stage::Dev).project("web");
/// assert_eq!((web.project_name(), web.stage()), ("web", Stage::Dev));
/// assert_eq!(web.to_string(), "web/dev");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Environment {
    project: String,
    stage: Stage,
}

/// The environments that every project has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// `dev`: for development.
    Dev,
    /// `staging`: for testing a release.
    Staging,
    /// `prod`: for customers.
    Prod,
}

impl Stage {
    /// Returns the name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Prod => "prod",
        }
    }
}

impl Environment {
    /// Returns this environment of the project `default`.
    pub fn of(stage: Stage) -> Self {
        Self { project: "default".into(), stage }
    }

    /// Sets the project.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = project.into();
        self
    }

    /// Returns the name of the project.
    pub fn project_name(&self) -> &str {
        &self.project
    }

    /// Returns which of the project's environments it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.stage.name())
    }
}
