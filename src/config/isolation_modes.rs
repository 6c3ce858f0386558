//! The isolation of a database, and the second one that it accepts during a change.

use super::Isolation;

/// How a database separates its tenants, as stored in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IsolationModes {
    /// The isolation of the database.
    pub mode: Isolation,
    /// The previous isolation, while a change is not finished: services and commands may still use it.
    pub leaving: Option<Isolation>,
}

impl IsolationModes {
    /// Returns the modes of a database with one isolation.
    pub(crate) fn only(mode: Isolation) -> Self {
        Self { mode, leaving: None }
    }

    /// Returns the modes of a database that changes to this isolation from the other one.
    pub(crate) fn changing_to(mode: Isolation) -> Self {
        Self { mode, leaving: Some(mode.other()) }
    }

    /// Returns whether a service or command with this isolation may use the database.
    pub fn accepts(self, isolation: Isolation) -> bool {
        self.mode == isolation || self.leaving == Some(isolation)
    }

    /// Returns whether a change of the isolation is not finished.
    pub(crate) fn is_changing(self) -> bool {
        self.leaving.is_some()
    }

    /// Returns the text that the database stores: the isolation, followed by the previous one during a change.
    pub(crate) fn text(self) -> String {
        match self.leaving {
            Some(leaving) => format!("{} {}", self.mode.as_str(), leaving.as_str()),
            None => self.mode.as_str().to_owned(),
        }
    }

    /// Reads [`text`](Self::text); `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [Isolation::Role, Isolation::Path].map(|mode| [Self::only(mode), Self::changing_to(mode)]);
        all.into_iter().flatten().find(|modes| modes.text() == text)
    }
}

impl Isolation {
    /// Returns the other isolation.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Role => Self::Path,
            Self::Path => Self::Role,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, accepted) in
            [("role", [true, false]), ("path", [false, true]), ("role path", [true, true]), ("path role", [true, true])]
        {
            let modes = IsolationModes::parse(text).unwrap();
            assert_eq!(modes.text(), text);
            assert_eq!([Isolation::Role, Isolation::Path].map(|mode| modes.accepts(mode)), accepted, "{text}");
            // public.cgk_isolation() uses the last four characters as the isolation of a service that sets none.
            assert_eq!(&text[text.len() - 4..], modes.leaving.unwrap_or(modes.mode).as_str());
        }
        for text in ["", "roles", "path path", "path,role"] {
            assert_eq!(IsolationModes::parse(text), None, "{text}");
        }
    }
}
