//! Changes the isolation of a database for `cgk setup:database`.

use anyhow::Result;
use cgk::{
    Config, Operator,
    config::{Isolation, IsolationModes},
    login::{self, LoginName},
    setup::{self, IsolationChange},
};

use super::lines::{ok, on_strays, warning};

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
pub(in crate::cli) async fn finish(operator: &Operator, finish: Finish<'_>) -> Result<(IsolationModes, Vec<String>)> {
    let config = operator.config();
    let modes = setup::isolation(operator).await?;
    let (modes, revoked_next) = match finish {
        Finish::No => return Ok((modes, unfinished(modes, &[]))),
        Finish::AfterLast(_) if (modes.mode, modes.leaving) != (Isolation::Role, Some(Isolation::Path)) => {
            return Ok((modes, unfinished(modes, &[])));
        }
        Finish::AfterLast(name) => {
            let mut others = login::with_direct_rights(operator).await?;
            others.retain(|login| login != name);
            if !others.is_empty() {
                return Ok((modes, unfinished(modes, &others)));
            }
            (setup::finish_before_revoking(config, name).await?, Some(name))
        }
        Finish::Asked(Some(name)) => (setup::finish_before_revoking(config, name).await?, Some(name)),
        Finish::Asked(None) => (setup::change_isolation(config, IsolationChange::Finish).await?, None),
    };
    let mut lines = vec![ok(format!("the database accepts only isolation {}", modes.mode.as_str()))];
    if modes.mode == Isolation::Role {
        // The lines about a login that is named are printed with its rights.
        let strays = login::with_rights_on_strays(operator).await?.into_iter();
        let strays = strays.filter(|(login, _)| Some(login) != revoked_next);
        lines.extend(strays.map(|(login, schemas)| warning(format!("login {login}: {}", on_strays(&schemas)))));
    }
    Ok((modes, lines))
}

/// Returns the message about a change that is not finished. The logins are those that keep it open.
fn unfinished(modes: IsolationModes, logins: &[LoginName]) -> Vec<String> {
    let Some(leaving) = modes.leaving else { return Vec::new() };
    let (mode, leaving) = (modes.mode.as_str(), leaving.as_str());
    if !logins.is_empty() {
        let revoke =
            |login: &LoginName| format!("cgk setup:database --isolation {mode} --app-role {login} --revoke-direct");
        let commands: Vec<String> = logins.iter().map(revoke).collect();
        return vec![warning(format!(
            "the database accepts isolation {leaving} and {mode}; the change is finished when no other login has direct rights: \
             when every service uses {mode}, run {}",
            commands.join(", ")
        ))];
    }
    vec![warning(format!(
        "the database accepts isolation {leaving} and {mode}; when every service uses {mode}, run \
         cgk setup:database --isolation {mode} --change-isolation finish"
    ))]
}
