//! A login is let into tenants one after the other: what stops that is named, and what was done before stays.

use super::service_login::app_name;
use crate::{
    sandbox::{Raw, login_role},
    stage::Stage,
    support::patience::{must_end, patient},
};
use cgk::{
    Config, Error, ErrorKind, Operator, SetupError,
    config::{Isolation, SessionSettings},
    lock,
    login::{self, Admission, LoginOptions, SharedTables},
};
use std::time::Duration;

/// The session that waits for a lock in this database.
const WAITING: &str = "from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                       and pid <> pg_backend_pid()";

async fn admit(stage: &Stage, operator: &Operator) -> Admission {
    let admission = must_end("the admission", login::admit(operator, &app_name(&stage.database), &options())).await;
    admission.unwrap_or_else(|error| panic!("{error:?}"))
}

fn options() -> LoginOptions {
    let mut options = LoginOptions::default();
    options.shared_tables = Some(SharedTables::Registry);
    options
}

/// An operator who owns the registry and made none of the tenants.
async fn owner_of_the_registry(stage: &Stage, raw: &Raw, isolation: Isolation) -> (String, Operator) {
    // Without INHERIT it has the rights of an owner only by acting as that.
    let (role, config) = login_role(&stage.database, raw, "nosuperuser nocreaterole noinherit").await;
    raw.run(&format!(
        "alter table organizations owner to {role}; create policy of_the_owner on organizations to {role} using (true);
         grant select on schema_migrations, tenant_acme.schema_migrations, tenant_globex.schema_migrations to {role}"
    ))
    .await;
    (role, Operator::connect(&patient(&config).with_isolation(isolation)).await.unwrap())
}

#[track_caller]
fn needed_grant(admission: &Admission) -> (&str, &str) {
    match &admission.failure {
        Some(Error::Setup(SetupError::Privilege { needed, grant, .. })) => (needed, grant),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_role_that_the_operator_may_not_hand_on_is_named() {
    let stage = Stage::set().await;
    let raw = Raw::on(&stage.database).await;
    let login = stage.app_name();
    stage.app(Isolation::Role, SharedTables::Registry).await;
    let (role, operator) = owner_of_the_registry(&stage, &raw, Isolation::Role).await;
    // Of two tenants' roles it may hand one on.
    let (acme, globex) = (stage.role("acme"), stage.role("globex"));
    stage.sql(&format!("revoke {acme}, {globex} from {login}; grant {acme} to {role} with admin option")).await;
    let stopped = admit(&stage, &operator).await;
    let (needed, grant) = needed_grant(&stopped);
    assert!(needed.contains(&globex) && !needed.contains(&acme), "{needed}");
    // Together or not at all.
    assert_eq!((stopped.tenants, stopped.left_out.len()), (0, 2));
    stage.sql(grant).await;
    let whole = admit(&stage, &operator).await;
    assert_eq!((whole.tenants, whole.left_out.len(), whole.failure.is_none()), (2, 0, true));
}

#[tokio::test]
async fn the_owner_of_schemas_that_the_operator_may_not_act_as_is_named() {
    let stage = Stage::set().await;
    let raw = Raw::on(&stage.database).await;
    let login = stage.app_name();
    stage.app(Isolation::Path, SharedTables::Registry).await;
    let (role, operator) = owner_of_the_registry(&stage, &raw, Isolation::Path).await;
    // Its own tenant it can open, the one of another owner it cannot.
    let (owner, _) = login_role(&stage.database, &raw, "nosuperuser").await;
    let hand_over = |schema: &str, owner: &str| {
        format!(
            "alter schema {schema} owner to {owner};
             do $$ declare t text; begin
                 for t in select c.oid::regclass from pg_class c
                          where c.relnamespace = '{schema}'::regnamespace and c.relkind in ('r', 'p', 'v') loop
                     execute 'alter table ' || t || ' owner to {owner}';
                 end loop;
             end $$;"
        )
    };
    stage.sql(&format!("{}{}", hand_over("tenant_acme", &role), hand_over("tenant_globex", &owner))).await;
    stage.sql(&format!("revoke usage on schema tenant_acme, tenant_globex from {login}")).await;
    let stopped = admit(&stage, &operator).await;
    let (needed, grant) = needed_grant(&stopped);
    assert!(needed.contains(&owner), "{needed}");
    assert_eq!(grant.ends_with(" with set true"), operator.facts().major() >= 16, "{grant}");
    assert_eq!((stopped.tenants, stopped.left_out.len()), (0, 2));
    stage.sql(grant).await;
    let whole = admit(&stage, &operator).await;
    assert_eq!((whole.tenants, whole.left_out.len(), whole.failure.is_none()), (2, 0, true));
}

/// Runs an admission of a new login, and something else between the message that makes the login and the one that lets it
/// into tenants: the first waits for the registry, behind it somebody asks for the lock on logins and has it before the second.
async fn between_the_messages(stage: &Stage, config: Config, then: &str) -> Admission {
    between_the_messages_of(stage, config, then).await.unwrap_or_else(|error| panic!("{error:?}"))
}

async fn between_the_messages_of(stage: &Stage, config: Config, then: &str) -> cgk::Result<Admission> {
    let (holder, next) = (Raw::on(&stage.database).await, Raw::on(&stage.database).await);
    let operator = Operator::connect(&config).await.unwrap();
    let name = app_name(&stage.database);
    // It may be read, and gets no policy.
    holder.run("begin; lock table organizations in share mode").await;
    let admission = tokio::spawn(async move { login::admit(&operator, &name, &options()).await });
    let waiting = |kind: &str| {
        format!(
            "select exists (select from pg_locks where locktype = '{kind}' and not granted
             and database = (select oid from pg_database where datname = current_database()))"
        )
    };
    stage.until(&waiting("relation")).await;
    let key = lock::logins_key();
    let ask = format!("select pg_advisory_lock({key})");
    let next = tokio::spawn(async move {
        next.run(&ask).await;
        next
    });
    stage.until(&waiting("advisory")).await;
    holder.run("commit").await;
    let next = must_end("the lock on logins", next).await.unwrap();
    stage.until(&waiting("advisory")).await;
    next.run(then).await;
    let admission = must_end("the admission", admission).await.unwrap();
    next.run(&format!("select pg_advisory_unlock({key})")).await;
    admission
}

/// Its password is said although nothing can be asked any more.
#[tokio::test]
async fn a_new_login_is_reported_when_the_connection_is_lost() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let stage = Stage::set().await;
        let end = format!("select pg_terminate_backend(pid) {WAITING}");
        let admission = between_the_messages(&stage, patient(&stage.config()).with_isolation(isolation), &end).await;
        assert!(admission.created && admission.password.is_some());
        assert_eq!(admission.failure.as_ref().map(Error::kind), Some(ErrorKind::Unavailable), "{admission:?}");
        assert_eq!(admission.tenants, 0);
    }
}

#[tokio::test]
async fn what_was_cancelled_is_no_missing_privilege() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let stage = Stage::set().await;
        let cancel = format!("select pg_cancel_backend(pid) {WAITING}");
        let config = patient(&stage.config()).with_isolation(isolation);
        let admission = between_the_messages(&stage, config, &cancel).await;
        let state = admission.failure.as_ref().and_then(Error::sqlstate);
        assert_eq!(state.map(|state| state.code()), Some("57014"), "{admission:?}");
        assert_eq!((admission.tenants, admission.left_out.len()), (0, 2));
        let operator = stage.database.operator().await.unwrap();
        let config = operator.config().clone().with_isolation(isolation);
        let whole = admit(&stage, &Operator::connect(&config).await.unwrap()).await;
        assert_eq!((whole.created, whole.password.is_none(), whole.tenants), (false, true, 2));
    }
}

#[tokio::test]
async fn a_lock_that_is_not_had_in_time_is_said() {
    let stage = Stage::set().await;
    let holder = Raw::on(&stage.database).await;
    holder.run(&format!("select pg_advisory_lock({})", lock::logins_key())).await;
    let config = patient(&stage.config());
    let session = SessionSettings { lock_timeout: Duration::from_millis(200), ..config.session().clone() };
    let operator = Operator::connect(&config.with_session(session)).await.unwrap();
    let outcome = must_end("the admission", login::admit(&operator, &stage.app_name(), &options())).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("55P03"), "{error:?}");
    assert_eq!(stage.number(&format!("select count(*) from pg_roles where rolname = '{}'", stage.app_name())).await, 0);
}

/// The policies are made anew only where they change: with nothing to change, nobody who uses the registry is waited for.
#[tokio::test]
async fn an_admission_that_changes_nothing_waits_for_nobody() {
    let stage = Stage::set().await;
    let operator = Operator::connect(&patient(&stage.config())).await.unwrap();
    admit(&stage, &operator).await;
    let holder = Raw::on(&stage.database).await;
    holder.run("begin; lock table organizations in share mode").await;
    let again = admit(&stage, &operator).await;
    assert_eq!((again.created, again.tenants, again.failure.is_none()), (false, 2, true));
    holder.run("commit").await;
}

#[tokio::test]
async fn what_was_cancelled_on_the_schema_of_another_owner_is_no_missing_privilege() {
    let stage = Stage::set().await;
    let raw = Raw::on(&stage.database).await;
    let (owner, _) = login_role(&stage.database, &raw, "superuser").await;
    raw.run(&format!("alter schema tenant_acme owner to {owner}")).await;
    let config = patient(&stage.config()).with_isolation(Isolation::Path);
    let cancel = format!("select pg_cancel_backend(pid) {WAITING}");
    let admission = between_the_messages(&stage, config.clone(), &cancel).await;
    let state = admission.failure.as_ref().and_then(Error::sqlstate);
    assert_eq!(state.map(|state| state.code()), Some("57014"), "{admission:?}");
    // The control: the owner is acted as.
    let whole = admit(&stage, &Operator::connect(&config).await.unwrap()).await;
    assert_eq!((whole.tenants, whole.failure.is_none()), (2, true));
    raw.run("alter schema tenant_acme owner to current_user").await;
}

/// The tenants are counted once all are let in; a count that fails is an error and not a login without tenants.
#[tokio::test]
async fn a_count_that_fails_after_everything_else_is_an_error() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let stage = Stage::set().await;
        let config = patient(&stage.config()).with_isolation(isolation);
        let let_go = format!("select pg_advisory_unlock({})", lock::logins_key());
        let rename = format!("alter table organizations rename column slug to name_in_urls; {let_go}");
        let error = between_the_messages_of(&stage, config.clone(), &rename).await.unwrap_err();
        assert_eq!(error.sqlstate().map(|state| state.code()), Some("42703"), "{error:?}");
        stage.sql("alter table organizations rename column name_in_urls to slug").await;
        // The control: it had let the login in, and only the count had failed.
        let whole = admit(&stage, &Operator::connect(&config).await.unwrap()).await;
        assert_eq!((whole.created, whole.tenants, whole.failure.is_none()), (false, 2, true));
    }
}
