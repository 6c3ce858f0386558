//! Why a secret was not sealed or not opened.

use crate::{error::Error, platform::PlatformError};

/// The result of this module's functions.
pub type Result<T, E = SecretError> = std::result::Result<T, E>;

/// Why a secret was not sealed or not opened. No text has a secret or a key in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// There are no keys.
    #[error("there are no keys to seal secrets with: CGK_SECRET_KEYS is not set")]
    NoKeys,
    /// The keys are not as they must be.
    #[error("key {number} of CGK_SECRET_KEYS cannot be used: {why}")]
    InvalidKeys {
        /// Which of them, from 1 on.
        number: usize,
        /// Why.
        why: &'static str,
    },
    /// The key that it was sealed with is not there.
    #[error("the key {id:?} is not in CGK_SECRET_KEYS")]
    UnknownKey {
        /// The id of the key.
        id: String,
    },
    /// It was not sealed by this module, not for this place, or it was changed.
    #[error("the value was not sealed for this column and row, or it was changed")]
    NotOpened,
    /// The system has no random bytes.
    #[error("the secret could not be sealed")]
    NotSealed,
    /// There is no such organization or account.
    #[error("there is no such organization or account")]
    NotFound,
    /// The database could not be asked, or did not do it.
    #[error(transparent)]
    Platform(PlatformError),
}

impl From<Error> for SecretError {
    fn from(error: Error) -> Self {
        Self::Platform(error.into())
    }
}

impl From<PlatformError> for SecretError {
    fn from(error: PlatformError) -> Self {
        Self::Platform(error)
    }
}
