//! The rules for texts that several parts of the shared schema store. An error is the reason; the caller names the text.

/// Checks a name for people: 1 to 200 characters, not all of them blank, and no control characters.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    match name.chars().count() > 200 || name.trim().is_empty() || name.chars().any(char::is_control) {
        true => Err("it must have 1 to 200 characters, not all blank, none of them control characters"),
        false => Ok(()),
    }
}

/// Checks that a text can be sent to the server. No text in PostgreSQL contains NUL.
pub(crate) fn check_no_nul(text: &str) -> Result<(), &'static str> {
    match text.contains('\0') {
        true => Err("it contains NUL"),
        false => Ok(()),
    }
}
