//! How a database keeps its tenants apart, and its change in two steps with the restart of services in between.

use crate::{
    access::login,
    config::{Config, IsolationModes},
    db::{Operator, identity::Identity, message},
    error::{Error, Result, SetupError, while_doing},
    identity, registry,
};

/// A step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationChange {
    /// The database gets the isolation of the configuration and accepts the other one besides, so that services can be
    /// restarted one by one.
    Start,
    /// The database accepts nothing but the isolation of the configuration.
    Finish,
}

/// Changes how the database keeps its tenants apart, and returns how it does from then on. Run again, a step changes nothing.
///
/// Nothing of a tenant is touched. Before services with role isolation are started, [`lifecycle::isolate`](crate::lifecycle::isolate)
/// makes the tenants' roles; before those with path isolation, [`login::admit`](crate::login::admit) gives their login its rights.
/// [`login::complete`](crate::login::complete) does the same for tenants that were made since.
///
/// # Locks
///
/// An advisory lock against others who write down what the database is, briefly; to finish, also against those who make tenants, for
/// whom it waits.
///
/// # Committed when
///
/// At once. Every transaction of a service that begins later sees it, on connections that are open already too, but for those
/// that were opened before the first setup wrote any isolation down.
///
/// # Errors
///
/// Those of [`Operator::connect`]. [`SetupError::IsolationMismatch`]: what is to be finished was not started.
/// [`SetupError::TenantsLockedOut`]: tenants lack a role, or an admitted login lacks the right to enter them. Kind `NotReady`: the
/// database is not set up.
///
/// # Cancel safety
///
/// Dropped, the step is done or not.
pub async fn change_isolation(config: &Config, step: IsolationChange) -> Result<IsolationModes> {
    let (operator, identity) = Operator::connect_to_any(config).await?;
    let database = operator.facts().database.clone();
    match identity {
        Identity::Copied => return Err(Error::Setup(SetupError::DatabaseCopied { database })),
        Identity::Unrecorded | Identity::Recorded(_) => registry::require(&operator).await?,
    }
    identity::ensure_tag(&operator).await?;
    let (now, configured) = (identity::isolation::of(&operator).await?, operator.config().isolation());
    if step == IsolationChange::Finish && now.mode == configured && now.leaving.is_some() {
        return finish(&operator).await;
    }
    let wanted = match step {
        IsolationChange::Start if now == IsolationModes::only(configured) => now,
        IsolationChange::Start => IsolationModes::changing_to(configured),
        IsolationChange::Finish if now.mode == configured => IsolationModes::only(configured),
        IsolationChange::Finish => {
            return Err(Error::Setup(SetupError::IsolationMismatch { database, stored: now.mode, configured }));
        }
    };
    if wanted != now || operator.facts().isolation.is_none() {
        identity::isolation::replace(&operator, wanted).await?;
    }
    Ok(wanted)
}

/// Gives up the isolation that the database had before, where every tenant can be entered without it.
async fn finish(operator: &Operator) -> Result<IsolationModes> {
    let isolation = operator.config().isolation();
    identity::isolation::begin_alone(operator).await?;
    let tenants = login::locked_out(operator).await?;
    if !tenants.is_empty() {
        // The connection ends here, and the transaction with it.
        let database = operator.facts().database.clone();
        return Err(Error::Setup(SetupError::TenantsLockedOut { database, isolation, tenants }));
    }
    let modes = IsolationModes::only(isolation);
    identity::isolation::replace(operator, modes).await?;
    let doing = || while_doing("finish the change of the isolation");
    message::run(operator.client(), "commit").await.map_err(doing())?.complete().map_err(doing())?;
    Ok(modes)
}

/// How the database keeps its tenants apart: as it is written down, or, where no setup has done that, as its tenants show; the
/// configuration decides where there are none.
///
/// # Errors
///
/// Kinds `Unavailable` and `Failed`: the server.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn isolation(operator: &Operator) -> Result<IsolationModes> {
    identity::isolation::of(operator).await
}
