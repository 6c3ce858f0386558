//! Resets the session behind a pooler, where another client may use the server's session next.
//!
//! The session is reset at both ends of a transaction. It is reset at the end, so that no state remains for the next
//! client. If that fails, the session ends instead of returning to the pooler. It is reset at the start, because other
//! clients of the same pooler may leave state too. Such a client does not use this library, or a cancel request
//! interrupted its reset.

use crate::{db::session_reset::UNLOCK, ident::literal};

/// Runs before the COMMIT, inside the transaction, and limits the time of the COMMIT and the reset. A transaction with
/// a local `statement_timeout` can also set one for the session. That one would apply after the COMMIT and stop the
/// reset. The session value that is set here replaces it.
pub(super) const BEFORE_COMMIT: &str = "set statement_timeout = '1min'; ";

/// Removes the session's state except its settings and locks.
const DROP_ALL: &str = "close all; reset session authorization; reset role; unlisten *; deallocate all; discard temp; \
                        discard sequences";

/// Returns SQL that resets the session after a transaction, or ends it: any error before the last statement ends the
/// session. RESET ALL is the last statement, and also resets `exit_on_error`.
pub(super) fn after(seed: f64) -> String {
    format!("set exit_on_error = on; {DROP_ALL}; select {UNLOCK}; set seed = {seed}; reset all")
}

/// Returns SQL that resets the session before a transaction. It removes all state that a previous client may have left,
/// and commits that. If it fails, nothing after it runs.
///
/// RESET ALL also resets what the pooler has set in the session for this client: the encoding that the driver uses, and
/// the application name. Therefore both are set again.
pub(super) fn before(application_name: Option<&str>) -> String {
    let name = application_name.map_or_else(String::new, |name| format!("set application_name = {}; ", literal(name)));
    // BEGIN makes the message's implicit transaction an explicit one, so that COMMIT causes no warning.
    format!(
        "{BEFORE_COMMIT}{DROP_ALL}; select {UNLOCK}; reset all; set client_encoding = 'UTF8'; {name}begin; commit; "
    )
}
