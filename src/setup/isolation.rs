//! Changes how a database separates its tenants. The change has two steps, and the services are restarted between them.

use crate::{
    access::login::{self, LoginName},
    config::{Config, Isolation, IsolationModes},
    db::{Operator, identity::DatabaseIdentity, message},
    error::{Error, Result, SetupError, while_doing},
    identity, registry,
};

/// A step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationChange {
    /// The database gets the isolation of the configuration and still accepts the other one, so that services can be
    /// restarted one by one.
    Start,
    /// The database accepts only the isolation of the configuration.
    Finish,
}

/// Changes how the database separates its tenants, and returns the new state. Repeating a step changes nothing.
///
/// Tenants are not changed. Before you start services with role isolation, create the tenants' roles with
/// [`lifecycle::isolate`](crate::lifecycle::isolate). Before you start services with path isolation, grant their login
/// its rights with [`login::admit`](crate::login::admit). [`login::complete`](crate::login::complete) does the same for
/// tenants that were created since.
///
/// # Locks
///
/// An advisory lock against other changes of the database's recorded state, for a short time.
/// [`Finish`](IsolationChange::Finish) also locks against the creation of tenants, and waits for creations in progress.
///
/// # Committed when
///
/// Immediately. It applies to every later transaction of a service, also on open connections. The exception are
/// connections that were opened before the first setup recorded an isolation.
///
/// # Errors
///
/// - The errors of [`Operator::connect`].
/// - [`SetupError::IsolationMismatch`]: the change to finish was not started.
/// - [`SetupError::LeavingIsolation`]: the change that was started is in the other direction.
/// - [`SetupError::TenantsLockedOut`]: tenants lack a role, or an admitted login lacks the right to enter them.
/// - [`SetupError::LoginsLockedOut`]: a login was admitted for role isolation only, and the change is to path isolation.
/// - [`SetupError::LoginsWithDirectRights`]: a login still has direct rights on tenants' schemas, and the change is to role
///   isolation. [`DirectRights::Revoke`](login::DirectRights::Revoke) revokes them.
/// - Kind `NotReady`: the database is not set up.
///
/// # Cancel safety
///
/// If the future is dropped, the step is either complete or not applied.
pub async fn change_isolation(config: &Config, step: IsolationChange) -> Result<IsolationModes> {
    change(config, step, None).await
}

/// Finishes a change to role isolation, as [`change_isolation`] does, while this login still has direct rights on tenants'
/// schemas. The caller revokes them next ([`DirectRights::Revoke`](login::DirectRights::Revoke)). In this order, a service
/// that reads the isolation from the database always has the rights that it needs.
///
/// # Locks, Committed when, Errors, Cancel safety
///
/// Those of [`change_isolation`].
pub async fn finish_before_revoking(config: &Config, last: &LoginName) -> Result<IsolationModes> {
    change(config, IsolationChange::Finish, Some(last)).await
}

async fn change(config: &Config, step: IsolationChange, revoked_next: Option<&LoginName>) -> Result<IsolationModes> {
    let (operator, identity) = Operator::connect_to_any(config).await?;
    let database = operator.facts().database.clone();
    match identity {
        DatabaseIdentity::Copied => return Err(Error::Setup(SetupError::DatabaseCopied { database })),
        DatabaseIdentity::Unrecorded | DatabaseIdentity::Recorded(_) => registry::require(&operator).await?,
    }
    identity::ensure_tag(&operator).await?;
    let (now, configured) = (identity::isolation::of(&operator).await?, operator.config().isolation());
    if step == IsolationChange::Finish && now.mode == configured && now.leaving.is_some() {
        return finish(&operator, revoked_next).await;
    }
    let wanted = match step {
        IsolationChange::Start if now == IsolationModes::only(configured) => now,
        IsolationChange::Start => IsolationModes::changing_to(configured),
        IsolationChange::Finish if now.mode == configured => IsolationModes::only(configured),
        IsolationChange::Finish if now.leaving == Some(configured) => {
            return Err(Error::Setup(SetupError::LeavingIsolation { database, leaving: configured }));
        }
        IsolationChange::Finish => {
            return Err(Error::Setup(SetupError::IsolationMismatch { database, stored: now.mode, configured }));
        }
    };
    if wanted != now || operator.facts().isolation.is_none() {
        identity::isolation::replace(&operator, wanted).await?;
    }
    Ok(wanted)
}

/// Removes the database's previous isolation, if every tenant can be entered without it, and in no other way.
async fn finish(operator: &Operator, revoked_next: Option<&LoginName>) -> Result<IsolationModes> {
    let isolation = operator.config().isolation();
    identity::isolation::begin_alone(operator).await?;
    let tenants = login::locked_out(operator).await?;
    if !tenants.is_empty() {
        // The connection is closed here, and its transaction ends.
        let database = operator.facts().database.clone();
        return Err(Error::Setup(SetupError::TenantsLockedOut { database, isolation, tenants }));
    }
    let logins = login::of_other_isolation(operator).await?;
    if !logins.is_empty() {
        let (database, logins) =
            (operator.facts().database.clone(), logins.iter().map(|login| login.as_str().to_owned()).collect());
        return Err(Error::Setup(SetupError::LoginsLockedOut { database, isolation, logins }));
    }
    if isolation == Isolation::Role {
        let mut logins = login::with_direct_rights(operator).await?;
        logins.retain(|login| Some(login) != revoked_next);
        if !logins.is_empty() {
            let database = operator.facts().database.clone();
            let logins = logins.iter().map(ToString::to_string).collect();
            return Err(Error::Setup(SetupError::LoginsWithDirectRights { database, logins }));
        }
    }
    let modes = IsolationModes::only(isolation);
    identity::isolation::replace(operator, modes).await?;
    let doing = || while_doing("finish the change of the isolation");
    message::run(operator.client(), "commit").await.map_err(doing())?.complete().map_err(doing())?;
    Ok(modes)
}

/// Returns how the database separates its tenants. This is the recorded value. If no setup has recorded one, it is
/// derived from the tenants. If there are no tenants, it is the configuration's.
///
/// # Errors
///
/// Kinds `Unavailable` and `Failed`: an error of the server.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn isolation(operator: &Operator) -> Result<IsolationModes> {
    identity::isolation::of(operator).await
}
