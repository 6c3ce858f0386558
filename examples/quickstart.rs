//! The whole way in one file: set up, two tenants, a write and a read as each of them.
//!
//! `DATABASE_URL=… cargo run --example quickstart`, on a database that may get the bundled tables. Without DATABASE_URL a
//! private, throw-away server is used.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use cgk::{
    Config, Db, Operator, TenantSlug, lifecycle,
    migrate::{Migrations, Silent},
    setup,
    testing::LocalServer,
};

/// An application's error: `Db::errors` fixes it once, so that no closure has to name it.
#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error(transparent)]
    Database(#[from] cgk::Error),
    #[error("the address {email:?} is too long")]
    TooLong { email: String },
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (_server, config) = match Config::load() {
        Ok(config) => (None, config),
        Err(error) if error.is_missing_url() => {
            let server = LocalServer::start_default(&|line| println!("{line}"))?;
            let config = Config::from_url(&server.url("postgres"))?;
            (Some(server), config)
        }
        Err(error) => return Err(error.into()),
    };

    // What an operator does once.
    let operator = Operator::connect(&config).await?;
    let migrations = Migrations::load(config.migrations())?;
    setup::setup(&operator, &migrations, &mut Silent).await?;
    let db: Db<AppError> = Db::connect(&config).await?.errors();
    let tenants: [TenantSlug; 2] = ["acme".parse()?, "globex".parse()?];
    for slug in &tenants {
        lifecycle::create(&operator, &db.errors(), &migrations, slug, &Default::default()).await?;
    }

    // What a service does on every request.
    add_customer(&db, &tenants[0], "ada@example.com").await?;
    for slug in &tenants {
        // One statement, one round trip.
        let row = db.tenant(slug).query_one("select count(*) from customers", &[]).await?;
        println!("{slug}: {} customers", row.get::<_, i64>(0));
    }
    Ok(())
}

/// The application's own error travels through the transaction, which it rolls back.
async fn add_customer(db: &Db<AppError>, slug: &TenantSlug, email: &str) -> Result<(), AppError> {
    db.with_tenant(slug, async |tx| {
        if email.len() > 320 {
            return Err(AppError::TooLong { email: email.to_owned() });
        }
        tx.execute("insert into customers (email) values ($1)", &[&email]).await?;
        Ok(())
    })
    .await
}
