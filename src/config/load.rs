//! Builds a [`Config`] from its sources.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::env::Sources;
use super::error::{ConfigError, ValueProblem};
use super::layers::{Layers, SettingNames, names};
use super::origin::Origin;
use super::overrides::Overrides;
use super::settings::{Isolation, MigrationsFrom, PoolSettings, Pooling, RemotePlaintext, SessionSettings};
use super::value::{self, DURATION_MAX, Span};
use super::{Config, Hidden, locate};
use crate::ident::Ident;
use crate::search_path::parse_list;

const REMOTE_PLAINTEXT: SettingNames = names("insecure_plaintext", "CGK_INSECURE_PLAINTEXT", "--insecure-plaintext");
const ISOLATION: SettingNames = names("isolation", "CGK_ISOLATION", "--isolation");
const SEARCH_PATH: SettingNames = names("search_path", "CGK_SEARCH_PATH", "");
const POOLED: SettingNames = names("pooled", "CGK_POOLED", "--pooled");
const MIGRATIONS: SettingNames = names("migrations", "CGK_MIGRATIONS", "--migrations");
const APPLICATION_NAME: SettingNames = names("session.application_name", "CGK_APPLICATION_NAME", "");
const LOCK_TIMEOUT: SettingNames = names("session.lock_timeout", "CGK_LOCK_TIMEOUT", "--lock-timeout");
const STATEMENT_TIMEOUT: SettingNames =
    names("session.statement_timeout", "CGK_STATEMENT_TIMEOUT", "--statement-timeout");
const MIGRATION_TIMEOUT: SettingNames =
    names("session.migration_statement_timeout", "CGK_MIGRATION_STATEMENT_TIMEOUT", "");
const MIGRATION_WAIT: SettingNames = names("session.migration_wait", "CGK_MIGRATION_WAIT", "");
const IDLE_TIMEOUT: SettingNames = names("session.idle_in_transaction_timeout", "CGK_IDLE_IN_TRANSACTION_TIMEOUT", "");
const SECRET_KEYS: SettingNames = names("secret_keys", "CGK_SECRET_KEYS", "");
const POOL_SIZE_MAX: SettingNames = names("pool.size_max", "CGK_POOL_SIZE_MAX", "");
const POOL_TENANT: SettingNames = names("pool.tenant_connections_max", "CGK_POOL_TENANT_CONNECTIONS_MAX", "");
const POOL_WAIT: SettingNames = names("pool.wait", "CGK_POOL_WAIT", "");
const POOL_AGE: SettingNames = names("pool.connection_age_max", "CGK_POOL_CONNECTION_AGE_MAX", "");
const POOL_TENANTS: SettingNames = names("pool.tenants_per_connection_max", "CGK_POOL_TENANTS_PER_CONNECTION_MAX", "");
const POOL_DESCRIPTIONS: SettingNames = names("pool.descriptions_max", "CGK_POOL_DESCRIPTIONS_MAX", "");

/// Reads all sources, chooses every value and checks it.
pub(super) fn load(mut overrides: Overrides, sources: &Sources) -> Result<Config, ConfigError> {
    let mut layers = Layers::read(&overrides, sources)?;
    let allow =
        |text: &str| value::boolean(text).map(|yes| if yes { RemotePlaintext::Allow } else { RemotePlaintext::Refuse });
    let plaintext = layers.pick(REMOTE_PLAINTEXT, overrides.remote_plaintext, allow, None)?.unwrap_or_default();
    let (address, url_origin) = locate::database_address(&mut overrides, &mut layers, sources, plaintext)?;
    let direct = locate::direct_address(&mut layers, sources, plaintext)?;

    let mut config = Config::new(address, url_origin, plaintext);
    config.direct = direct;
    config.origins.absorb(std::mem::take(&mut layers.origins));
    choose(&mut config, overrides, &mut layers, sources)?;
    if let Some(found) = layers.variable(SECRET_KEYS)? {
        layers.origins.set(SECRET_KEYS.key, found.origin);
        config.secret_keys = Some(Hidden(found.text));
    }
    config.origins.absorb(layers.origins);
    config.config_file = Some(layers.file.path).filter(|path| !path.as_os_str().is_empty());
    config.notices.extend(layers.dotenv.notices);
    config.notices.extend(unknown_variables(sources));
    config.apply_session_settings();
    Ok(config)
}

/// Returns notices about misspelled variables, which would have no effect.
fn unknown_variables(sources: &Sources) -> Vec<String> {
    // The variables of single commands, of the private server and of the tests.
    const OTHERS: [&str; 17] = [
        "CGK_ARGUMENTS",
        "CGK_BENCH_",
        "CGK_BINARY",
        "CGK_CACHE_DIR",
        "CGK_CLIENT_",
        "CGK_CONFIG",
        "CGK_COST_TURNS",
        "CGK_DATABASE_URL_FILE",
        "CGK_DEMO_DATABASE",
        "CGK_DIRECT_URL",
        "CGK_FAULTS",
        "CGK_NO_DOWNLOAD",
        "CGK_PG_",
        "CGK_RELAY_",
        "CGK_SECRET_KEYS",
        "CGK_TEST_",
        "CGK_WEBHOOK_SECRET",
    ];
    let settings = [
        REMOTE_PLAINTEXT,
        ISOLATION,
        SEARCH_PATH,
        POOLED,
        MIGRATIONS,
        APPLICATION_NAME,
        LOCK_TIMEOUT,
        STATEMENT_TIMEOUT,
        MIGRATION_TIMEOUT,
        MIGRATION_WAIT,
        IDLE_TIMEOUT,
        POOL_SIZE_MAX,
        POOL_WAIT,
        POOL_AGE,
        POOL_TENANTS,
        POOL_DESCRIPTIONS,
    ];
    let is_known = |name: &str| {
        settings.iter().any(|setting| setting.variable == name)
            || OTHERS.iter().any(|other| name == *other || (other.ends_with('_') && name.starts_with(other)))
            || name.starts_with("CGK_SCOREBOARD")
            || name.starts_with("CGK_FAULTS_")
            || name == "CGK_DIRECT_URL_FILE"
    };
    let names = sources.names_of_variables().filter(|name| name.starts_with("CGK_") && !is_known(name));
    names.map(|name| format!("cgk has no setting {name}: the variable is ignored")).collect()
}

impl MigrationsFrom {
    /// Reads only this setting, for work that needs no database. `DATABASE_URL` need not be set.
    ///
    /// # Errors
    ///
    /// The errors of [`Config::load_with`] for the configuration file and for this setting.
    pub fn load_with(overrides: Overrides) -> Result<MigrationsFrom, ConfigError> {
        let sources = Sources::of_process().map_err(|problem| problem.of("working directory", None))?;
        migrations(overrides, &sources)
    }
}

/// Chooses only the source of the migrations.
pub(super) fn migrations(overrides: Overrides, sources: &Sources) -> Result<MigrationsFrom, ConfigError> {
    let mut layers = Layers::read(&overrides, sources)?;
    let from_file = layers.file.settings.migrations.take();
    Ok(pick_migrations(overrides.migrations, from_file, &mut layers, sources)?
        .map_or_else(MigrationsFrom::default, MigrationsFrom::Directory))
}

fn pick_migrations(
    flag: Option<PathBuf>,
    from_file: Option<PathBuf>,
    layers: &mut Layers<'_>,
    sources: &Sources,
) -> Result<Option<PathBuf>, ConfigError> {
    let from_file = from_file.map(|path| layers.file.directory().join(path));
    let absolute = |path: &Path| sources.directory().join(path);
    let flag = flag.map(|path| absolute(&path));
    layers.pick(MIGRATIONS, flag, |text| Ok(absolute(Path::new(text))), from_file)
}

/// Chooses everything except the addresses.
fn choose(
    config: &mut Config,
    overrides: Overrides,
    layers: &mut Layers<'_>,
    sources: &Sources,
) -> Result<(), ConfigError> {
    let file = std::mem::take(&mut layers.file.settings);
    let isolation = layers.pick(ISOLATION, overrides.isolation, read_isolation, file.isolation)?;
    put(&mut config.isolation, isolation);
    let from_file = match file.search_path {
        Some(names) => {
            let origin = layers.file.origin(SEARCH_PATH.key);
            Some(schemas(names).map_err(|problem| problem.of(SEARCH_PATH.key, Some(origin)))?)
        }
        None => None,
    };
    config.search_path = layers.pick(SEARCH_PATH, None, read_schemas, from_file)?;
    let pooled =
        layers.pick(POOLED, overrides.pooling, |text| value::boolean(text).map(pooling), file.pooled.map(pooling))?;
    match pooled {
        Some(pooling) => config.pooling = pooling,
        None => config.advise_pooling(),
    }

    for rule in &file.drift.ignore {
        if rule.reason.trim().is_empty() || rule.object.is_empty() {
            let problem = ValueProblem::invalid(
                "has a rule without an object or a reason",
                "Write ignore = [{ object = \"orders_*\", reason = \"made by the reporting tool\" }].",
            );
            return Err(problem.of("drift.ignore", Some(layers.file.origin("drift.ignore"))));
        }
    }
    config.drift_ignore = file.drift.ignore;
    let migrations = pick_migrations(overrides.migrations.clone(), file.migrations, layers, sources)?;
    put(&mut config.migrations, migrations.map(MigrationsFrom::Directory));

    choose_session(&mut config.session, &overrides, layers, file.session)?;

    let time = value::duration;
    let PoolSettings {
        size_max,
        tenant_connections_max,
        wait,
        connection_age_max,
        tenants_per_connection_max,
        descriptions_max,
    } = &mut config.pool;
    put(wait, layers.pick(POOL_WAIT, None, time, span(file.pool.wait))?);
    put(connection_age_max, layers.pick(POOL_AGE, None, time, span(file.pool.connection_age_max))?);
    let mut count = |names: SettingNames, from_file: Option<usize>| {
        if let Some(number) = from_file {
            value::positive(number).map_err(|problem| problem.of(names.key, Some(layers.file.origin(names.key))))?;
        }
        layers.pick(names, None, value::count, from_file)
    };
    put(size_max, count(POOL_SIZE_MAX, file.pool.size_max)?);
    put(tenant_connections_max, count(POOL_TENANT, file.pool.tenant_connections_max)?.map(Some));
    put(tenants_per_connection_max, count(POOL_TENANTS, file.pool.tenants_per_connection_max)?);
    put(descriptions_max, count(POOL_DESCRIPTIONS, file.pool.descriptions_max)?);
    Ok(())
}

/// Chooses the settings of sessions.
fn choose_session(
    session: &mut SessionSettings,
    overrides: &Overrides,
    layers: &mut Layers<'_>,
    file: super::file::SessionSection,
) -> Result<(), ConfigError> {
    let time = value::duration;
    let SessionSettings {
        application_name,
        lock_timeout,
        statement_timeout,
        migration_statement_timeout,
        migration_wait,
        idle_in_transaction_timeout,
    } = session;
    put(application_name, layers.pick(APPLICATION_NAME, None, |text| Ok(text.to_owned()), file.application_name)?);
    let flag = bounded(LOCK_TIMEOUT, overrides.lock_timeout)?;
    put(lock_timeout, layers.pick(LOCK_TIMEOUT, flag, time, span(file.lock_timeout))?);
    let flag = bounded(STATEMENT_TIMEOUT, overrides.statement_timeout)?;
    put(statement_timeout, layers.pick(STATEMENT_TIMEOUT, flag, time, span(file.statement_timeout))?);
    let migration = span(file.migration_statement_timeout);
    put(migration_statement_timeout, layers.pick(MIGRATION_TIMEOUT, None, time, migration)?);
    put(migration_wait, layers.pick(MIGRATION_WAIT, None, time, span(file.migration_wait))?);
    let idle = span(file.idle_in_transaction_timeout);
    put(idle_in_transaction_timeout, layers.pick(IDLE_TIMEOUT, None, time, idle)?);
    Ok(())
}

fn put<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

fn span(span: Option<Span>) -> Option<Duration> {
    span.map(|Span(duration)| duration)
}

fn pooling(pooled: bool) -> Pooling {
    if pooled { Pooling::Transaction } else { Pooling::Direct }
}

fn read_isolation(text: &str) -> Result<Isolation, ValueProblem> {
    match text {
        "role" => Ok(Isolation::Role),
        "path" => Ok(Isolation::Path),
        _ => Err(ValueProblem::invalid("is neither role nor path", "Write role or path.")),
    }
}

fn read_schemas(text: &str) -> Result<Vec<Ident>, ValueProblem> {
    let names = parse_list(text).ok_or_else(|| {
        ValueProblem::invalid("is not a list of schemas", "Write names separated by commas: extensions, other.")
    })?;
    schemas(names)
}

fn schemas(names: Vec<String>) -> Result<Vec<Ident>, ValueProblem> {
    let ident = |name| {
        Ident::new(name).map_err(|_| ValueProblem::invalid("contains an invalid schema name", "Correct the name."))
    };
    names.into_iter().map(ident).collect()
}

fn bounded(names: SettingNames, flag: Option<Duration>) -> Result<Option<Duration>, ConfigError> {
    match flag {
        Some(duration) if duration > DURATION_MAX => {
            let problem = ValueProblem::invalid("is longer than 24 days", "Give a shorter time.");
            Err(problem.of(names.key, Some(Origin::Flag(names.flag))))
        }
        flag => Ok(flag),
    }
}
