//! Changes the isolation of a database for `cgk setup:database`.

use anyhow::Result;
use cgk::{
    Config, Operator,
    config::{Isolation, IsolationModes},
    login::{self, LoginName},
    setup::{self, IsolationChange},
};

use super::lines::{ok, warning};

/// Whether a run starts a change.
#[derive(Clone, Copy)]
pub(in crate::cli) enum Start {
    No,
    Asked,
    /// If it creates the tenants' roles, and the database has path isolation.
    WithRoles,
}

/// Whether a run finishes a change.
#[derive(Clone, Copy)]
pub(in crate::cli) enum Finish<'a> {
    No,
    Asked,
    /// If this login, whose own rights are revoked, is the last one that has any.
    AfterLast(&'a LoginName),
}

/// Starts a change. It runs before the operator connects, because the operator would be refused.
pub(in crate::cli) async fn start(config: &Config, start: Start) -> Result<()> {
    match (start, config.isolation()) {
        (Start::No, _) | (Start::WithRoles, Isolation::Path) => {}
        (Start::Asked, _) => drop(setup::change_isolation(config, IsolationChange::Start).await?),
        (Start::WithRoles, Isolation::Role) => {
            let accepted = match Operator::connect(config).await {
                Err(cgk::Error::Setup(cgk::SetupError::IsolationMismatch { .. })) => false,
                operator => setup::isolation(&operator?).await?.accepts(Isolation::Role),
            };
            if !accepted {
                setup::change_isolation(config, IsolationChange::Start).await?;
            }
        }
    }
    Ok(())
}

/// Finishes a change, and returns the modes and the message about them. It runs before the rights of a login are revoked.
/// After it, services that read the isolation from the database enter by role.
pub(in crate::cli) async fn finish(
    operator: &Operator,
    finish: Finish<'_>,
) -> Result<(IsolationModes, Option<String>)> {
    let config = operator.config();
    let modes = setup::isolation(operator).await?;
    let wanted = match finish {
        Finish::No => false,
        Finish::Asked => true,
        Finish::AfterLast(name) => {
            (modes.mode, modes.leaving) == (Isolation::Role, Some(Isolation::Path))
                && login::with_direct_rights(operator).await?.iter().all(|login| login == name)
        }
    };
    if !wanted {
        return Ok((modes, unfinished(modes)));
    }
    let modes = setup::change_isolation(config, IsolationChange::Finish).await?;
    Ok((modes, Some(ok(format!("the database accepts only isolation {}", modes.mode.as_str())))))
}

/// Returns the message about a change that is not finished.
fn unfinished(modes: IsolationModes) -> Option<String> {
    let (mode, leaving) = (modes.mode.as_str(), modes.leaving?.as_str());
    Some(warning(format!(
        "the database accepts isolation {leaving} and {mode}; when every service uses {mode}, run \
         cgk setup:database --isolation {mode} --change-isolation finish"
    )))
}
