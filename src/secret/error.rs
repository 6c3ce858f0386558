//! The errors of encrypting and decrypting secrets.

use crate::{error::Error, platform::PlatformError};

/// The result of this module's functions.
pub type Result<T, E = SecretError> = std::result::Result<T, E>;

/// The reason why a secret was not encrypted or decrypted. No text contains a secret or a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// There are no keys.
    #[error("there are no keys to seal secrets with: CGK_SECRET_KEYS is not set")]
    NoKeys,
    /// The keys have a wrong format.
    #[error("key {number} of CGK_SECRET_KEYS cannot be used: {why}")]
    InvalidKeys {
        /// The number of the key, starting at 1.
        number: usize,
        /// The reason.
        why: &'static str,
    },
    /// The secret was encrypted with a key that is missing here.
    #[error("the key {id:?} is not in CGK_SECRET_KEYS")]
    UnknownKey {
        /// The id of the key.
        id: String,
    },
    /// The value was not encrypted by this module, was encrypted for another place, or was changed.
    #[error("the value was not sealed for this column and row, or it was changed")]
    NotOpened,
    /// The system has no random bytes, so the secret was not encrypted.
    #[error("the secret could not be sealed")]
    NotSealed,
    /// The organization or the account does not exist.
    #[error("there is no such organization or account")]
    NotFound,
    /// The database did not answer, or returned an error.
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
