//! What is done behind a pooler, where the session of the server goes to whichever client comes next.
//!
//! The session is reset at both ends of a transaction. At its end, so that nothing of it is there for the next client: where
//! that cannot be done, the session ends instead of going back to the pooler as it is. At its beginning, because other clients
//! of the same pooler may leave things too: programs without this library, or one whose reset met a cancel request.

use crate::{db::session_reset::UNLOCK, ident::literal};

/// Stands before the COMMIT, inside the transaction, and bounds the COMMIT and the reset. A transaction can leave
/// a `statement_timeout` for the session behind one that is local to it, which begins to count with the statement after the
/// COMMIT and would stop the reset. What is set here for the session takes its place.
pub(super) const BEFORE_COMMIT: &str = "set statement_timeout = '1min'; ";

/// What a session holds beside its settings and locks, taken away.
const DROP_ALL: &str = "close all; reset session authorization; reset role; unlisten *; deallocate all; discard temp; \
                        discard sequences";

/// Resets the session after a transaction, or ends it: until the last statement any error does. RESET ALL is that last
/// statement, and takes `exit_on_error` back too.
pub(super) fn after(seed: f64) -> String {
    format!("set exit_on_error = on; {DROP_ALL}; select {UNLOCK}; set seed = {seed}; reset all")
}

/// Resets the session before a transaction, with everything that whichever client before may have left, and commits that.
/// Where it fails, nothing behind it runs.
///
/// RESET ALL also takes back what the pooler has set in the session for this client: the encoding, in which the driver
/// speaks, and the application's name.
pub(super) fn before(application_name: Option<&str>) -> String {
    let name = application_name.map_or_else(String::new, |name| format!("set application_name = {}; ", literal(name)));
    // The first of BEGIN and COMMIT makes the message's implicit transaction an explicit one, so that COMMIT has no warning.
    format!(
        "{BEFORE_COMMIT}{DROP_ALL}; select {UNLOCK}; reset all; set client_encoding = 'UTF8'; {name}begin; commit; "
    )
}
