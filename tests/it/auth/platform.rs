//! What these tests stand on: the tenants `acme` and `globex`, each with a user, and the login of a service.

use crate::stage::{Stage, connect, run};
use cgk::{
    Db, OrganizationId,
    auth::{Auth, AuthError, AuthSettings, NewUser, Rejection, User, UserRole},
    config::Isolation,
    login::SharedTables,
};
use tokio_postgres::Client;

pub(crate) struct Platform {
    pub(crate) stage: Stage,
    pub(crate) db: Db,
    pub(crate) auth: Auth,
    pub(crate) acme: OrganizationId,
    pub(crate) globex: OrganizationId,
}

impl Platform {
    pub(crate) async fn set() -> Self {
        Self::set_with(AuthSettings::default()).await
    }

    pub(crate) async fn set_with(settings: AuthSettings) -> Self {
        let stage = Stage::set().await;
        let db = stage.app(Isolation::Role, SharedTables::All).await;
        let auth = Auth::new(&db, settings);
        let (acme, globex) = (organization(&stage, "acme").await, organization(&stage, "globex").await);
        Self { stage, db, auth, acme, globex }
    }

    /// Operations on a pool of their own.
    pub(crate) async fn beside(&self) -> Auth {
        let db: Db = Db::connect(self.db.config()).await.unwrap();
        Auth::new(&db, self.auth.settings().clone())
    }

    /// A session that has begun a transaction and holds what this statement locks. The observer's own could not watch then: a
    /// transaction sees the other sessions as they were when it first looked.
    pub(crate) async fn holder(&self, lock: &str) -> Client {
        let holder = connect(self.stage.database.name()).await;
        run(&holder, &format!("begin; {lock}")).await.unwrap();
        holder
    }

    /// Waits until so many sessions wait for a lock.
    pub(crate) async fn until_waiting(&self, number: usize) {
        let waiting = "from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        self.stage.until(&format!("select count(*) = {number} {waiting}")).await;
    }

    /// An active member of an organization.
    pub(crate) async fn user(&self, organization: OrganizationId, email: &str) -> User {
        let user = NewUser::active(email).role(UserRole::Member);
        self.auth.users().create(organization, &user).await.unwrap()
    }
}

async fn organization(stage: &Stage, slug: &str) -> OrganizationId {
    let row = stage.watch.query_one("select id from organizations where slug = $1", &[&slug]).await.unwrap();
    OrganizationId(row.get(0))
}

/// Why a credential was not accepted.
pub(crate) fn reason<T: std::fmt::Debug>(outcome: Result<T, AuthError>) -> Rejection {
    let error = outcome.unwrap_err();
    // Whoever presents it is told nothing of this.
    assert_eq!(error.to_string(), "the credential is not accepted");
    error.rejection().unwrap_or_else(|| panic!("{error:?}"))
}

pub(crate) fn is_not_found<T: std::fmt::Debug>(outcome: Result<T, AuthError>) -> bool {
    matches!(outcome, Err(AuthError::NotFound { .. }))
}
