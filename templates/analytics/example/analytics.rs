//! Adds a dataset with an alert, and runs the alerts that are due as a worker would.
//!
//!     cargo run --example analytics
//!
//! The tenant acme must exist: cgk tenant:create acme

use cgk::analytics::{
    Aggregate, Automation, Channel, Column, ColumnType, Columns, Comparison, InvalidValue,
};
use cgk::{Config, Db, TenantSlug, UserId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Db::connect(&Config::load()?).await?;
    let acme: TenantSlug = "acme".parse()?;
    // Who is signed in.
    let ada: UserId = "0195f0a0-0000-7000-8000-000000000001".parse()?;
    add_alert(&db, &acme, ada, &columns()?, &alert()?).await?;
    for name in run_due(&db, &acme, 93.5).await? {
        println!("alert: {name}");
    }
    Ok(())
}

/// Values are checked when they are made. The database refuses what these types cannot hold.
pub fn columns() -> Result<Columns, InvalidValue> {
    Columns::new(vec![
        Column::new("paid_at".parse()?, ColumnType::Timestamp {}),
        Column::new(
            "amount".parse()?,
            ColumnType::Number {
                scale: Some(2.try_into()?),
            },
        ),
    ])
}

pub fn alert() -> Result<Automation, InvalidValue> {
    Ok(Automation::ThresholdAlert {
        column: "amount".parse()?,
        aggregate: Aggregate::Sum,
        comparison: Comparison::Below,
        threshold: 100.0.try_into()?,
        window_minutes: 60.try_into()?,
        cooldown_minutes: 240.try_into()?,
        channels: vec![Channel::Email {
            address: "ada@example.com".parse()?,
        }]
        .try_into()?,
    })
}

pub async fn add_alert(
    db: &Db,
    tenant: &TenantSlug,
    user: UserId,
    columns: &Columns,
    alert: &Automation,
) -> cgk::Result<()> {
    db.with_tenant(tenant, async |tx| {
        let dataset = "
            insert into datasets (name, columns, created_by) values ('Orders', $1, $2)
                on conflict (name) do update set columns = excluded.columns";
        tx.execute(dataset, &[columns, &user]).await?;
        // What is there already is due again.
        let automation = "
            insert into automations (dataset_id, name, definition, created_by)
            select id, 'Revenue is low', $1, $2 from datasets where name = 'Orders'
                on conflict (name) do update set next_run_at = now()";
        tx.execute(automation, &[alert, &user]).await?;
        Ok(())
    })
    .await
}

/// Claims the automations that are due and returns the names of the alerts that `measured` sets
/// off. A claimed one is due again in an hour.
pub async fn run_due(db: &Db, tenant: &TenantSlug, measured: f64) -> cgk::Result<Vec<String>> {
    let claim = "select name, definition from claim_automations(retry_in => '1 hour')";
    let mut alerts = Vec::new();
    for row in db.tenant(tenant).query(claim, &[]).await? {
        match row.get("definition") {
            Automation::ThresholdAlert {
                comparison,
                threshold,
                ..
            } => {
                if comparison.holds(measured, threshold) {
                    alerts.push(row.get("name"));
                }
            }
            Automation::ScheduledReport { .. } => {}
        }
    }
    Ok(alerts)
}
