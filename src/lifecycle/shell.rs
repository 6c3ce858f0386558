//! Prepares `psql` for one tenant.

use crate::{
    config::Config,
    db::{Operator, milliseconds},
    error::{ConnectionError, Error, Result, while_doing},
    slug::TenantSlug,
    tenancy::{Db, TxOptions},
};
use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// How long to wait until the connection that entered the tenant is closed.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Whether the transactions of a shell may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShellAccess {
    /// Transactions are read-only, unless the user of psql changes that.
    #[default]
    ReadOnly,
    /// Transactions can write.
    Write,
}

/// Options for [`shell`].
#[derive(Clone, Debug)]
pub struct ShellOptions {
    access: ShellAccess,
    system_roots: PathBuf,
}

impl Default for ShellOptions {
    fn default() -> Self {
        Self { access: ShellAccess::ReadOnly, system_roots: "system".into() }
    }
}

impl ShellOptions {
    /// Sets whether transactions may write. Default: they may not.
    pub fn access(mut self, access: ShellAccess) -> Self {
        self.access = access;
        self
    }

    /// Sets the file with the system's certificate authorities for psql. It is used if the configuration trusts these.
    /// Default: the word `system`, which psql supports since version 16.
    pub fn system_roots(mut self, file: impl Into<PathBuf>) -> Self {
        self.system_roots = file.into();
        self
    }
}

/// A tenant in which psql can be started.
#[derive(Clone, Debug)]
pub struct TenantShell {
    config: Config,
    slug: TenantSlug,
    options: ShellOptions,
    role: Option<String>,
    settings: String,
}

/// Prepares psql for one tenant: enters the tenant once, as [`Db::with_tenant`](crate::Db::with_tenant) does, and reads
/// the role, the search path and the organization with which psql starts.
///
/// Then it opens a connection in the same way as psql does, and refuses if the session does not have these values. psql
/// sets them with start-up options, which a pooler may ignore. A pooler that passes options on only for some
/// connections is not detected.
///
/// The session of psql belongs to the operator. It starts with these values, and RESET ROLE returns to the tenant's
/// role. But its user can leave the tenant with SET ROLE NONE or SET SESSION AUTHORIZATION, and can set
/// `default_transaction_read_only` to off. This prevents mistakes. It is no protection against a person with the
/// operator's rights.
///
/// The session has no lock of cgk. A suspension, rename or drop only waits for locks of its statements, not for the
/// session.
///
/// # Locks
///
/// The tenant's lock, shared, during the check. Nothing is committed.
///
/// # Errors
///
/// Those of `with_tenant`, for example kind `NotFound` or `Suspended`. Kind `Invalid`
/// ([`ConnectionError::OptionsIgnored`]): a pooler ignores the start-up options.
///
/// # Cancel safety
///
/// If the future is dropped, the check is rolled back.
pub async fn shell(operator: &Operator, slug: &TenantSlug, options: &ShellOptions) -> Result<TenantShell> {
    let db: Db = Db::connect(&operator.config().clone().with_pool_size_max(1)).await?;
    let sql =
        "select pg_catalog.current_setting('search_path'), pg_catalog.current_setting('app.current_organization_id'),
                      current_user::pg_catalog.text";
    let read_only = TxOptions::default().read_only();
    let row = db.with_tenant_in(slug, &read_only, async |tx| tx.query_one(sql, &[]).await).await;
    db.close(CLOSE_WAIT_MAX).await;
    let row = row?;
    let text = |column: usize| row.try_get::<_, String>(column).map_err(Error::from);
    let (path, organization, user) = (text(0)?, text(1)?, text(2)?);
    let role = Some(user).filter(|user| *user != operator.facts().role);
    let read_only = if options.access == ShellAccess::ReadOnly { "on" } else { "off" };
    let timeout = milliseconds(operator.session().lock_timeout);
    let mut settings = vec![
        ("search_path", path.as_str()),
        ("app.current_organization_id", &organization),
        ("default_transaction_read_only", read_only),
        ("lock_timeout", &timeout),
    ];
    settings.extend(role.as_deref().map(|role| ("role", role)));
    let own = operator.config().driver().get_options().map(str::to_owned);
    let given = settings.iter().map(|(name, value)| format!("-c {name}={}", escaped(value)));
    let settings = own.into_iter().chain(given).collect::<Vec<_>>().join(" ");
    let user = role.as_deref().unwrap_or(&operator.facts().role);
    let expected = [
        ("role", user),
        ("search_path", &path),
        ("app.current_organization_id", &organization),
        ("default_transaction_read_only", read_only),
    ];
    refuse_ignored(operator, &settings, &expected).await?;
    Ok(TenantShell { config: operator.config().clone(), slug: slug.clone(), options: options.clone(), role, settings })
}

/// Opens a connection with these start-up options. Refuses if its session does not have the expected settings.
async fn refuse_ignored(operator: &Operator, options: &str, expected: &[(&'static str, &str); 4]) -> Result<()> {
    let sql = "select current_user::pg_catalog.text, pg_catalog.current_setting('search_path'),
                      coalesce(pg_catalog.current_setting('app.current_organization_id', true), ''),
                      pg_catalog.current_setting('default_transaction_read_only')";
    let doing = || while_doing("check the settings of a new connection");
    let rows = operator.probe(options).await?.query_typed(sql, &[]).await.map_err(doing())?;
    for (column, (setting, expected)) in expected.iter().enumerate() {
        let found: Option<&str> = rows.first().map(|row| row.try_get(column)).transpose().map_err(doing())?;
        if found != Some(*expected) {
            let target = operator.config().target().to_string();
            return Err(ConnectionError::OptionsIgnored { target, setting }.into());
        }
    }
    Ok(())
}

/// Escapes a value for the server's command line, which the server splits at spaces.
fn escaped(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        if c.is_whitespace() || c == '\\' {
            text.push('\\');
        }
        text.push(c);
        text
    })
}

impl TenantShell {
    /// Returns the tenant's role; `None` under path isolation, where psql keeps the operator's role.
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// Returns the command that starts the given psql program with these arguments. The password is in its environment,
    /// not in its arguments. The prompt shows the tenant, unless the user's psqlrc file sets another prompt.
    pub fn command(&self, psql: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = OsString>) -> Command {
        let mut command = Command::new(psql);
        let mark = if self.options.access == ShellAccess::Write { " write" } else { "" };
        for (name, sign) in [("PROMPT1", "%R%x%# "), ("PROMPT2", "%R%x%# ")] {
            command.arg("-v").arg(format!("{name}={}{mark} @ %/{sign}", self.slug));
        }
        command.args(arguments);
        let own = [
            ("PGAPPNAME", Some(format!("cgk shell {}", self.slug).into())),
            ("PGOPTIONS", Some(self.settings.clone().into())),
        ];
        for (name, value) in self.config.libpq_variables(&self.options.system_roots).into_iter().chain(own) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_blanks_is_one_value() {
        assert_eq!(escaped(r#""a b", public\x"#), r#""a\ b",\ public\\x"#);
    }
}
