//! Puts a feature behind a flag, for half of the users, and counts how often it is used.
//!
//!     cargo run --example flags
//!
//! The tenant acme must exist: cgk tenant:create acme

use cgk::flags::{
    self, Environment, Flags, FlagsSettings, Metric, Stage, Subject, Usage, UsageEvent,
};
use cgk::{Config, Db, TenantSlug};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Db::connect(&Config::load()?).await?;
    let acme: TenantSlug = "acme".parse()?;
    add_feature(&db, &acme).await?;
    let service = Service::new(&db);
    for (request, user) in [("request-1", "user-1"), ("request-2", "user-2")] {
        let search = service.search(&acme, request, user).await?;
        println!("{user}: {search}");
    }
    Ok(())
}

/// The feature, on for 50 percent of the users in every environment.
pub async fn add_feature(db: &Db, tenant: &TenantSlug) -> cgk::Result<()> {
    let feature = "
        insert into features (key, name, kind, percentage, enabled)
        values ('fast_search', 'Fast search', 'percentage', 50, true) on conflict do nothing";
    db.tenant(tenant).execute(feature, &[]).await?;
    Ok(())
}

/// Made once, when the service starts.
pub struct Service {
    flags: Flags,
    usage: Usage,
}

impl Service {
    pub fn new(db: &Db) -> Self {
        Self {
            flags: Flags::new(db, FlagsSettings::default()),
            usage: Usage::new(db),
        }
    }

    /// A user is always answered in the same way. An event counts once, however often its key is
    /// sent.
    pub async fn search(
        &self,
        tenant: &TenantSlug,
        request: &str,
        user: &str,
    ) -> flags::Result<&'static str> {
        self.usage.check(tenant, &Metric::ApiCalls, 1).await?; // LimitReached: status 429
        let prod = Environment::of(Stage::Prod);
        let is_fast = self
            .flags
            .is_on(tenant, &prod, "fast_search", &Subject::new(user))
            .await?;
        self.usage
            .record(tenant, &[UsageEvent::new(request, Metric::ApiCalls, 1)])
            .await?;
        Ok(if is_fast { "fast search" } else { "search" })
    }
}
