//! The queue of tenants that services request and another process creates.

mod cli;
mod requests;
mod serving;

use crate::{auth::platform::Platform, stage::slug, support::patience::patient};
use cgk::{
    Config, Db,
    migrate::{Interrupt, Migrations},
    provisioning::{
        self, Attempt, NewOrganization, Provisioning, ProvisioningError, ProvisioningRequest, Requested, ServeOptions,
        ServeReport,
    },
};
use std::time::Duration;

/// Longer than any test: whoever waits for it hangs.
const NEVER: Duration = Duration::from_secs(3600);

/// Two tenants, a service with its own login, and its view of the queue.
struct Site {
    platform: Platform,
    db: Db<ProvisioningError>,
    provisioning: Provisioning,
}

impl Site {
    async fn set() -> Self {
        let platform = Platform::set().await;
        let provisioning = Provisioning::new(&platform.db);
        Self { db: platform.db.errors(), provisioning, platform }
    }

    /// Requests a tenant, as the service does.
    async fn request(&self, name: &str) -> Requested {
        let new = NewOrganization::new(slug(name));
        self.db.platform().transaction(async |tx| provisioning::request(tx, &new).await).await.unwrap()
    }

    async fn of(&self, name: &str) -> ProvisioningRequest {
        self.provisioning.of_tenant(&slug(name)).await.unwrap()
    }

    /// The operator's.
    fn config(&self) -> Config {
        patient(self.platform.stage.database.config())
    }

    /// Serves what is due, and returns each tenant and how its attempt ended.
    async fn serve_due(&self, options: &ServeOptions) -> (ServeReport, Vec<(String, String)>) {
        let mut seen = Vec::new();
        let mut note = |attempt: &Attempt| seen.push((attempt.slug.clone(), told(attempt)));
        let report = provisioning::serve_due(&self.config(), &Migrations::bundled(), options, &mut note).await.unwrap();
        (report, seen)
    }

    /// Serves the queue until the handle ends it.
    fn serving(&self, options: &ServeOptions) -> (Interrupt, tokio::task::JoinHandle<cgk::Result<ServeReport>>) {
        let (config, interrupt) = (self.config(), Interrupt::new());
        let options = options.clone().interrupt(&interrupt);
        let serving = async move {
            let migrations = Migrations::bundled();
            provisioning::serve(&config, &migrations, &options, &mut |_| ()).await
        };
        (interrupt, tokio::spawn(serving))
    }

    async fn is_active(&self, name: &str) -> bool {
        let sql = format!("select count(*) from organizations where slug = '{name}' and status = 'active'");
        let entered = self.platform.db.tenant(&slug(name)).query_one("select count(*) from orders", &[]).await;
        self.platform.stage.number(&sql).await == 1 && entered.is_ok()
    }
}

/// `done`, or how it failed and the error's code.
fn told(attempt: &Attempt) -> String {
    use provisioning::AttemptOutcome::{Done, Failed, Postponed};
    match &attempt.outcome {
        Done(_) => "done".into(),
        Postponed { error, .. } => format!("postponed {}", error.code()),
        Failed { error } => format!("failed {}", error.code()),
        other => format!("{other:?}"),
    }
}
