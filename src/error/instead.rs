//! What to do instead of a statement that is refused inside a transaction.

use std::fmt;

/// What to do instead of a statement that [`StatementRefused`](super::TransactionError::StatementRefused) names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Instead {
    /// Return from the closure: the library commits or rolls back.
    ReturnFromClosure,
    /// Another tenant or the login takes a call of its own.
    CallForRole,
    /// Another tenant takes a call of its own, and further schemas take a setting.
    CallForSearchPath,
    /// Another organization takes a call of its own.
    CallForOrganization,
    /// The operator changes logins.
    ChangeLoginAsOperator,
    /// Rights are granted on single objects.
    GrantOnObjects,
    /// Objects are dropped one by one.
    DropOneByOne,
    /// Another name for the savepoint.
    OtherSavepointName,
    /// Settings are reset by name.
    ResetByName,
    /// The methods for COPY.
    CopyMethods,
    /// The name without unicode escapes.
    PlainName,
    /// The statement without the comment that marks one of cgk's own.
    NoEnterMark,
}

/// Writes a clause without a full stop, in the words of this library's interface.
impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReturnFromClosure => {
                "return Ok from the closure to commit and Err to roll back; `tx.savepoint()` undoes a part of the transaction"
            }
            Self::CallForRole => {
                "the role belongs to the transaction; another tenant takes a call of its own, and work as the login goes \
                 through `db.platform()`"
            }
            Self::CallForSearchPath => {
                "the search path belongs to the transaction; another tenant takes a call of its own, and schemas of \
                 extensions are named by the setting `search_path`"
            }
            Self::CallForOrganization => {
                "the organization belongs to the transaction; another tenant takes a call of its own"
            }
            Self::ChangeLoginAsOperator => {
                "it changes a login for good, its settings or its password, for all tenants and services; the operator \
                 does that"
            }
            Self::GrantOnObjects => {
                "it gives or takes rights on whatever the role makes later, for good; grant rights on single objects, or \
                 let the operator or a migration do it"
            }
            Self::DropOneByOne => {
                "it takes default privileges from the tenant's role for good; drop objects one by one"
            }
            Self::OtherSavepointName => {
                "names that start with cgk_ are reserved for `tx.savepoint()`; choose another name"
            }
            Self::ResetByName => "reset single settings by name; the session is reset after every transaction",
            Self::CopyMethods => "it takes `copy_in` or `copy_out` of a transaction of `with_tenant`",
            Self::PlainName => "write the name without unicode escapes",
            Self::NoEnterMark => "leave that comment out: it marks a statement of cgk's own",
        })
    }
}
