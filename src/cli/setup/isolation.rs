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
    /// With the login whose own rights are revoked next, if there is one.
    Asked(Option<&'a LoginName>),
    /// If this login, whose own rights are revoked next, is the last one that has any.
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
    let modes = match finish {
        Finish::No => return Ok((modes, unfinished(modes, &[]))),
        Finish::AfterLast(name) => {
            let mut others = login::with_direct_rights(operator).await?;
            others.retain(|login| login != name);
            if (modes.mode, modes.leaving) != (Isolation::Role, Some(Isolation::Path)) || !others.is_empty() {
                return Ok((modes, unfinished(modes, &others)));
            }
            setup::finish_before_revoking(config, name).await?
        }
        Finish::Asked(Some(name)) => setup::finish_before_revoking(config, name).await?,
        Finish::Asked(None) => setup::change_isolation(config, IsolationChange::Finish).await?,
    };
    Ok((modes, Some(ok(format!("the database accepts only isolation {}", modes.mode.as_str())))))
}

/// Returns the message about a change that is not finished. The logins are those that keep it open.
fn unfinished(modes: IsolationModes, logins: &[LoginName]) -> Option<String> {
    let (mode, leaving) = (modes.mode.as_str(), modes.leaving?.as_str());
    if !logins.is_empty() {
        let revoke =
            |login: &LoginName| format!("cgk setup:database --isolation {mode} --app-role {login} --revoke-direct");
        let commands: Vec<String> = logins.iter().map(revoke).collect();
        return Some(warning(format!(
            "the database accepts isolation {leaving} and {mode}; the change is finished when no other login has direct rights: \
             when every service uses {mode}, run {}",
            commands.join(", ")
        )));
    }
    Some(warning(format!(
        "the database accepts isolation {leaving} and {mode}; when every service uses {mode}, run \
         cgk setup:database --isolation {mode} --change-isolation finish"
    )))
}
