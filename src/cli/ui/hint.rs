//! Hints: what to do about an error, as a sentence.

mod migration;
mod transfer;

use cgk::{
    ConnectionError, Error, ExecError, MissingPart, ReportError, SeedError, SetupError, TenantError, TenantSlug,
    TenantStatus, TransactionError, ident::SchemaName, templates::TemplateError,
};
use std::error::Error as StdError;

/// The hint if the shared set is the user's own, or older than the required tables.
pub(crate) const TABLES_MISSING: &str = "Run `cgk migrate --public` if migrations are pending. In a shared set of your own, add \
             them: `cgk migrate:new users --public --from-builtin users`, then sessions, api_keys, magic_links and memberships.";

/// The same hint for the queue.
pub(crate) const QUEUE_MISSING: &str = "Run `cgk migrate --public` if migrations are pending. In a shared set of your own, add \
             it: `cgk migrate:new provisioning --public --from-builtin provisioning`.";

/// The same hint for custom domains.
pub(crate) const DOMAINS_MISSING: &str = "Run `cgk migrate --public` if migrations are pending. In a shared set of your own, add \
             it: `cgk migrate:new domains --public --from-builtin organization_domains`.";

/// The same hint for the tables of the business layer.
pub(crate) const PLATFORM_MISSING: &str = "Run `cgk migrate --public` if migrations are pending. In a shared set of your own, add \
             the bundled files that are missing: `cgk migrate:new memberships --public --from-builtin memberships`.";

/// The hint for an operation in an organization that is suspended.
pub(crate) const SUSPENDED: &str =
    "Its owner has deleted it, or an operator has suspended it. `cgk tenant:activate <tenant>` activates it.";
/// The format of keys for secrets.
pub(crate) const SECRET_KEYS: &str = "Set CGK_SECRET_KEYS to an id, a colon and 32 random bytes in base64: \
             `echo 2026:$(head -c 32 /dev/urandom | base64)`. Keep it with the secrets of the deployment: without it nothing can be opened.";

pub(crate) fn of(error: &Error) -> Option<String> {
    let text = match error {
        Error::InvalidSlug(_) => {
            "A slug has 1 to 48 characters, only a-z, 0-9 and _, and starts with a letter: acme, big_shop_2.".into()
        }
        Error::Connection(refused) => connection(error, refused)?,
        Error::Setup(refused) => setup(refused)?,
        Error::Tenant(refused) => tenant(refused)?,
        Error::Migration(refused) => migration::of(error, refused)?,
        Error::Exec(refused) => exec(refused)?,
        Error::Transfer(refused) => transfer::of(refused)?,
        Error::Seed(refused) => seed(refused)?,
        Error::Report(ReportError::NotAReport { .. }) => {
            "Give --compare a file that `cgk report --data FILE` wrote.".into()
        }
        Error::Report(ReportError::OtherFleet { .. }) => {
            "Give --compare a report of this database, or leave it out.".into()
        }
        Error::Transaction(TransactionError::PlatformInsideTenant { .. }) => {
            "Call db.platform() before or after with_tenant, not inside its closure.".into()
        }
        Error::Transaction(TransactionError::Statement { .. })
            if error.sqlstate().is_some_and(|state| state.code() == "42501") && !said(error, ROW_SECURITY_OFF) =>
        {
            "The SQL runs as the tenant's role (with isolation by path: as the operator), which has the rights on its own rows and \
             no others. Change tables with a migration, and run what only the operator may do with psql."
                .into()
        }
        _ => by_sqlstate(error)?,
    };
    Some(text)
}

/// A part of the server's message if a setting is in the way, not a right.
const ROW_SECURITY_OFF: &str = "would be affected by row-level security";

fn connection(error: &Error, refused: &ConnectionError) -> Option<String> {
    let text = match refused {
        ConnectionError::Connect { .. } => connect(error)?,
        ConnectionError::Login { .. } => login(error),
        ConnectionError::DatabaseMissing { database, .. } => {
            format!("Check the name at the end of the URL, or create the database: `create database \"{database}\"`.")
        }
        ConnectionError::ServerTooOld { needed, .. } => format!("Use a server of PostgreSQL {needed} or newer."),
        ConnectionError::PoolTimeout { .. } => "Raise pool.size_max or pool.wait in cgk.toml.".into(),
        ConnectionError::TenantLimit { .. } => "Raise pool.tenant_connections_max or pool.wait in cgk.toml.".into(),
        ConnectionError::Lost { .. } => {
            "Each schema is committed completely or not at all, except by a file without a transaction, whose executed \
             statements are kept. Run the same command again."
                .into()
        }
        ConnectionError::OptionsIgnored { .. } => {
            "Set CGK_DIRECT_URL to the address of the server itself: a pooler in front of it ignores the parameter `options`.".into()
        }
        ConnectionError::PoolerRefused { .. } => "Set CGK_DIRECT_URL to the address of the server itself.".into(),
        _ => by_sqlstate(error)?,
    };
    Some(text)
}

fn setup(refused: &SetupError) -> Option<String> {
    let text = match refused {
        SetupError::Privilege { grant, .. } => privilege(grant),
        SetupError::NotSetUp { missing, .. } if missing.contains("pending") => "Run `cgk migrate --public` first.".into(),
        SetupError::NotSetUp { missing, .. } if missing.contains("has no column") => {
            "A table of another program has the name of cgk's registry. Rename it (`alter table public.organizations rename to \
             …`), or use a separate database, and run `cgk setup:database`."
                .into()
        }
        SetupError::NotSetUp { .. } => "Run `cgk setup:database` first.".into(),
        SetupError::ReadOnly { standby: true, .. } => "Use the address of the primary server.".into(),
        SetupError::ReadOnly { .. } => {
            "Reset it where it is set: `alter database … reset default_transaction_read_only`, the same for the role, or the \
             server's configuration."
                .into()
        }
        SetupError::DatabaseCopied { .. } => {
            "Run `cgk setup:database --new-identity`: it creates roles for the tenants of this database and revokes the rights of the other database's \
             roles and logins here. The other database does not change."
                .into()
        }
        SetupError::IsolationMismatch { stored, configured, .. } => format!(
            "Set `isolation = \"{0}\"` in cgk.toml, or CGK_ISOLATION={0}. To change the database instead, run `cgk setup:database \
             --isolation {1} --change-isolation start`, restart the services with isolation {1}, and then run the same with \
             `finish`.",
            stored.as_str(),
            configured.as_str()
        ),
        SetupError::LeavingIsolation { leaving, .. } => format!(
            "To call that change off, run `cgk setup:database --isolation {0} --change-isolation start`, and when every service \
             uses {0}, the same with `finish`.",
            leaving.as_str()
        ),
        SetupError::LoginsLockedOut { isolation, .. } => format!(
            "Admit each that still serves: `cgk setup:database --isolation {} --app-role NAME`. Remove the others: \
             docs/operations.md.",
            isolation.as_str()
        ),
        SetupError::LoginsWithDirectRights { logins, .. } => {
            let revoke = |login: &String| format!("`cgk setup:database --isolation role --app-role {login} --revoke-direct`");
            let commands: Vec<_> = logins.iter().map(revoke).collect();
            format!(
                "When no service of these logins uses path isolation, run {}: the last one finishes the change. A login that \
                 no service uses can be removed: docs/operations.md.",
                commands.join(", ")
            )
        }
        SetupError::TenantsLockedOut { isolation, .. } => format!(
            "Run `cgk setup:database --isolation {} --change-isolation finish` as a role that may grant what is missing.",
            isolation.as_str()
        ),
        SetupError::LoginUnfit { fix, .. } => {
            format!("Fix it with `{fix}`, or choose another name.")
        }
        SetupError::SearchPathUnfit { fix, .. } if fix.is_empty() => "Take it out of the setting `search_path`.".into(),
        SetupError::SearchPathUnfit { schema, fix, .. } if schema == "public" => format!("Let its owner run `{fix}`."),
        SetupError::SearchPathUnfit { fix, .. } => {
            format!("Run `{fix}`, or set `search_path` in cgk.toml to the schemas that extensions live in.")
        }
        _ => return None,
    };
    Some(text)
}

fn tenant(refused: &TenantError) -> Option<String> {
    let text = match refused {
        TenantError::NotFound { tenant } => {
            format!("`cgk tenant:list` lists the tenants; `cgk tenant:create {tenant}` creates this one.")
        }
        TenantError::Suspended { tenant } => format!("Run `cgk tenant:activate {tenant}` to let it be used again."),
        TenantError::StatusUnknown { tenant, .. } => format!(
            "If services may use the tenant, run `update public.organizations set status = 'active' where slug = '{tenant}'`."
        ),
        TenantError::NotReady { tenant, status, missing: MissingPart::Schema { schema } }
            if *status != TenantStatus::Onboarding =>
        {
            schema_gone(tenant, schema)
        }
        TenantError::NotReady { tenant, missing: MissingPart::Ledger { schema, .. }, .. } => {
            migration::lost_ledger(tenant, schema)
        }
        TenantError::NotReady { tenant, .. } => {
            format!("Run `cgk tenant:create {tenant}`: it creates what is missing.")
        }
        TenantError::SchemaNotOurs { .. } => {
            "cgk does not use a schema that it did not create. Choose another slug, rename the schema, or adopt \
             it with `cgk migrate:baseline`."
                .into()
        }
        TenantError::OrganizationMismatch { tenant, schema, .. } => format!(
            "The slug now belongs to another organization, but its old schema still exists. Rename the schema (`alter schema {0} rename \
             to {0}_old`, or drop it), or, if its rows belong to this organization, run as the owner `comment on schema {0} \
             is null` and then run `cgk tenant:create {tenant}`.",
            schema.as_str()
        ),
        TenantError::SchemaGone { tenant, schema, .. } => schema_gone(tenant, schema),
        TenantError::InUse { .. } => {
            "Wait until these transactions end, or end their sessions, and run the command again. `cgk tenant:suspend` ends them \
             itself with --terminate."
                .into()
        }
        TenantError::BeingDropped { tenant } => format!("Run `cgk tenant:drop {tenant}` to the end."),
        TenantError::DropPlanned { tenant, .. } => {
            format!("Run `cgk tenant:undrop {tenant}` to keep it; `cgk tenant:show {tenant}` shows the date.")
        }
        TenantError::DropNotDue { tenant, .. } => {
            format!("Run `cgk tenant:undrop {tenant}` to keep it, or `cgk tenant:suspend {tenant}` so that it is dropped.")
        }
        TenantError::DropOutdated { tenant, .. } => {
            format!("Look at it with `cgk tenant:show {tenant}`. To drop it all the same, run the command again.")
        }
        TenantError::Renamed { now, .. } => format!("Use its slug now: {now}."),
        TenantError::FormerSlug { tenant, now } => {
            format!(
                "For this tenant, use the slug {now}. For another tenant, choose another slug, or run \
                 `cgk tenant:rename {now} --drop-alias {tenant}`."
            )
        }
        TenantError::RenameBlocked { .. } => {
            "Choose another slug, or change what is named: inside the tenant its tables are found without the schema's name.".into()
        }
        TenantError::DropBlocked { tenant, by } => {
            let or_run = if by.iter().any(|what| what.contains("run `")) { " or run the named statement," } else { "" };
            format!("Drop or move what is named,{or_run} and run `cgk tenant:drop {tenant}` again.")
        }
        TenantError::NotWarm { .. } => {
            "Tenants are created without ready schemas. To use them, change the migration that the message is about.".into()
        }
        TenantError::TooManyWarm { max, .. } => format!(
            "Keep as many ready as are created between two runs of the command, at most {max}: `cgk tenant:warm 20`."
        ),
        TenantError::RoleInUse { tenant, role, .. } => format!(
            "Another organization had the slug, and its role is left. If nothing of it is needed, run `drop owned by {role}` as a \
             superuser in each database that is named, then `drop role {role}` and `cgk tenant:create {tenant}`."
        ),
        _ => return None,
    };
    Some(text)
}

fn exec(refused: &ExecError) -> Option<String> {
    let text = match refused {
        ExecError::Empty => "Give a statement with --sql, or a file with --file.",
        ExecError::Unreadable { .. } => "Correct the SQL on that line. Nothing was run.",
        ExecError::Copy { .. } => "A SELECT with --csv prints rows; psql runs COPY.",
        ExecError::Parameters { .. } => "Write the values into the SQL.",
        ExecError::ReadOnly { .. } => "If the change is meant, run it with --write.",
        ExecError::ColumnsRefused { .. } => {
            "Give each column its own name (AS), print another format, or run one statement at a time."
        }
        _ => return None,
    };
    Some(text.into())
}

fn seed(refused: &SeedError) -> Option<String> {
    let text = match refused {
        SeedError::Unreadable { .. } | SeedError::NoFiles { .. } => {
            "Create files *.sql in seeds/tenant next to the migrations. `cgk tenant:seed --dir` reads another folder, and \
             `cgk tenant:create` needs no seeds without --seed."
        }
        SeedError::Invalid { .. } => "Correct the file. Seeds contain statements of SQL, without COPY.",
        SeedError::Unknown { .. } => "Give --again the name of a file in the folder, without .sql.",
        _ => return None,
    };
    Some(text.into())
}

/// Returns the hint for a failed connection. The server's response has precedence over an error of the network or TLS.
fn connect(error: &Error) -> Option<String> {
    if let Some(hint) = by_sqlstate(error) {
        return Some(hint);
    }
    // The server has responded, so the address is right, and none of the causes below applies.
    if error.sqlstate().is_some() {
        return Some(
            "The server answered and ended the session; the line above says why. Check the settings of the server, of the \
             role and of the database (`\\drds` in psql)."
                .into(),
        );
    }
    let chain: Vec<String> =
        std::iter::successors(error.source(), |&cause| cause.source()).map(|cause| cause.to_string()).collect();
    let said = chain.join(": ").to_lowercase();
    let pooled = error.to_string().contains("-pooler.");
    let hint = if said.contains("unknownissuer") || said.contains("unknown issuer") {
        "The server's certificate is signed by a private authority: add sslrootcert=FILE with your provider's \
             CA file to the URL."
    } else if said.contains("notvalidforname") || said.contains("not valid for name") {
        "The certificate is for another name: use the host name from your provider, not an IP address or alias."
    } else if said.contains("expired") {
        "The server's certificate has expired, or the clock of this machine is wrong."
    } else if said.contains("does not support tls") {
        "The server does not support TLS. On a trusted network, allow plain text with \
             CGK_INSECURE_PLAINTEXT=1; for a server on this machine, add sslmode=disable to the URL."
    } else if said.contains("refused") {
        "No server listens there. Check host and port, and that the server is running."
    } else if said.contains("no such file") {
        "There is no server socket in that directory. Check the directory, and that the server is running."
    } else if said.contains("lookup") || said.contains("name or service not known") {
        "The host name is unknown. Check its spelling."
    } else if said.contains("timed out") || said.contains("timeout") {
        "The server does not answer. Check host, port and firewall; a paused server may need a second try."
    } else if pooled {
        "This host is a pooler: the server itself has the same name without -pooler."
    } else {
        return None;
    };
    Some(hint.into())
}

fn login(error: &Error) -> String {
    match error.sqlstate().map(|state| state.code()) {
        Some("28P01") => {
            "The password is wrong. In a URL, write @ : / # ? % as %40 %3A %2F %23 %3F %25. `cgk setup:database` \
             shows where the URL comes from."
                .into()
        }
        None => {
            "The server asks for a password: set PGPASSWORD or PGPASSFILE, or write the password into the URL.".into()
        }
        _ => "Check the user in the URL, and the server's pg_hba.conf.".into(),
    }
}

fn privilege(statement: &str) -> String {
    if statement.starts_with("cgk ") {
        return format!("Run `{statement}` as the operator.");
    }
    if statement.contains(" with admin option") || statement.starts_with("create policy ") {
        return format!(
            "Use the URL of the operator, the role that ran `cgk setup:database`, and not that of a service. For another \
             operator, run this as the owner or a superuser: `{statement}`."
        );
    }
    let kind = if statement.contains("createrole") {
        " Or use isolation without roles: isolation = \"path\" in cgk.toml (less safe)."
    } else if statement.contains("createdb") {
        " Or unset DATABASE_URL: the demo then starts its own server."
    } else {
        ""
    };
    format!("Run this as the owner or a superuser: `{statement}`.{kind}")
}

/// Whether the server's English message contains this text.
fn said(error: &Error, text: &str) -> bool {
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.any(|cause| cause.to_string().contains(text))
}

fn by_sqlstate(error: &Error) -> Option<String> {
    let hint = match error.sqlstate()?.code() {
        "28P01" | "28000" => return Some(login(error)),
        "3D000" => "Check the name of the database at the end of the URL.",
        "42501" if said(error, ROW_SECURITY_OFF) => {
            "row_security is off for this role or database, and cgk needs it on: run `alter role … reset row_security`, `alter \
             role … in database … reset row_security` or `alter database … reset row_security`, where it is set (`\\drds` in \
             psql)."
        }
        "42501" => {
            "The role lacks a right. Use the URL of the operator, the role that ran `cgk setup:database`. Run as the operator, that \
             command shows which rights are missing."
        }
        "55P03" => "Another session holds the lock: wait or end it, then run the command again.",
        "57014" if said(error, "user request") => "The statement was cancelled. Run the command again.",
        "57014" => {
            "The statement ran longer than statement_timeout allows: that of cgk.toml (session.statement_timeout, \
             session.migration_statement_timeout), of the role or of the database (`\\drds` in psql)."
        }
        "53300" => {
            "The server is out of connections: lower pool.size_max in cgk.toml, use a pooler, or end idle sessions."
        }
        "53200" => "The server is out of memory for locks: raise max_locks_per_transaction.",
        "53100" => "The server's disk is full.",
        "25006" => {
            "The session is read-only. If the server is a standby, use the address of the primary server; otherwise reset \
             default_transaction_read_only for the role or the database."
        }
        "57P03" => "The server is starting or stopping. Wait a moment and run the command again.",
        "0A000" => "The tenants' tables differ: `cgk migrate:status` shows which tenants are behind.",
        _ => return None,
    };
    Some(hint.into())
}
/// Returns the hint for templates that were not written.
pub(super) fn of_template(error: &TemplateError) -> Option<String> {
    let text = match error {
        TemplateError::Unknown { name } if name.contains(',') => {
            "Name several templates with several --template. `cgk init --list` lists them.".to_owned()
        }
        TemplateError::Unknown { .. } => "`cgk init --list` lists the templates.".to_owned(),
        TemplateError::NotInProject { name } => {
            format!("To add it, run `cgk init --template {name}` without --upgrade.")
        }
        TemplateError::NoProject { .. } => "Run `cgk init` without --upgrade.".to_owned(),
        TemplateError::ForeignPublicSet { .. } => {
            "Templates need cgk's own shared tables. Use another folder: --migrations DIR.".to_owned()
        }
        TemplateError::NameTaken { .. } => {
            "Rename your file, if it is not applied yet. Nothing was written.".to_owned()
        }
        TemplateError::RelationTaken { .. } => {
            "Templates cannot rename their tables: rename yours, or leave the template out. Nothing was written."
                .to_owned()
        }
        TemplateError::Record { .. } => {
            "Restore the file from version control. Without it, cgk knows the files by their texts.".to_owned()
        }
        TemplateError::Blocked { .. } => "Move it away, or use another folder. Nothing was written.".to_owned(),
        TemplateError::Write { left, .. } if left.is_empty() => {
            "What was written before was removed again. Correct the cause and run the command again.".to_owned()
        }
        TemplateError::Write { left, .. } => {
            let left: Vec<String> = left.iter().map(|path| format!("{path:?}")).collect();
            format!(
                "These files could not be removed again: {}. Run the command again to complete them.",
                left.join(", ")
            )
        }
        _ => return None,
    };
    Some(text)
}

fn schema_gone(tenant: &TenantSlug, schema: &SchemaName) -> String {
    format!(
        "Restore schema {} from a dump, as its owner: `psql` for a plain dump, `pg_restore --schema={0}` for another format. Then \
             run `cgk tenant:create {tenant}`, which restores role and rights. If the data may be lost, `cgk tenant:create \
             {tenant} --recreate-empty` creates an empty schema.",
        schema.as_str()
    )
}
