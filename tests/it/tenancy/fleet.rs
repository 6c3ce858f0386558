//! Many tenants in turn on a few connections: none reads or writes another's rows, and the sessions stay what they were.

use crate::{
    sandbox::{Files, seeded},
    stage::{as_login, slug},
    support::patience::patient,
};
use cgk::{
    Db, Operator,
    config::Isolation,
    lifecycle::{self, CreateManyOptions, NewTenant},
    login::{self, LoginOptions},
    migrate::Silent,
    testing::TestServer,
};
use futures_util::future::try_join_all;
use rand::RngExt as _;
use std::collections::BTreeSet;

const CONNECTIONS: usize = 3;
const CALLERS: usize = 12;
const CALLS: usize = 60;

fn name(number: usize) -> String {
    format!("t{number}")
}

/// What one transaction found: the backend, and what the session holds.
type Found = (i32, i64);

/// Writes a row of its own and reads all there are, in a transaction or in one statement.
async fn visit(db: &Db, number: usize, whole: bool) -> Result<Found, cgk::Error> {
    let (tenant, tag) = (slug(&name(number)), name(number));
    let insert = "insert into marks (tag) values ($1)";
    // All rows there are, the schema and the organization: nothing but the tenant's own.
    let look = "select (select count(*) from marks where tag <> $1), current_schema()::text,
                       (select count(*) from public.organizations o where o.slug = $1
                        and o.id::text = current_setting('app.current_organization_id')),
                       pg_backend_pid(), (select count(*) from pg_prepared_statements)";
    let row = if whole {
        db.with_tenant(&tenant, async |tx| {
            tx.execute(insert, &[&tag]).await?;
            tx.query_one(look, &[&tag]).await
        })
        .await?
    } else {
        db.tenant(&tenant).execute(insert, &[&tag]).await?;
        db.tenant(&tenant).query_one(look, &[&tag]).await?
    };
    assert_eq!((row.get(0), row.get::<_, String>(1), row.get(2)), (0_i64, format!("tenant_{tag}"), 1_i64), "{tag}");
    Ok((row.get(3), row.get(4)))
}

#[tokio::test]
async fn two_hundred_tenants_in_turn_on_three_connections() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_marks.sql", "create table marks (tag text not null)")]);
    let (operator, migrations) = (database.operator().await.unwrap(), files.load());
    let tenants: Vec<NewTenant> = (0..200).map(|number| NewTenant::from(slug(&name(number)))).collect();
    let db = database.db().await.unwrap();
    let options = CreateManyOptions::default();
    let report = lifecycle::create_many(&operator, &db, &migrations, &tenants, &options, &mut Silent).await.unwrap();
    assert_eq!(report.tenants.iter().filter(|tenant| tenant.result.is_ok()).count(), 200);
    let by_path = database.config().clone().with_isolation(Isolation::Path);
    cgk::setup::change_isolation(&by_path, cgk::setup::IsolationChange::Start).await.unwrap();
    let mut dice = seeded("two_hundred_tenants_in_turn_on_three_connections");
    let watch = crate::stage::connect(database.name()).await;
    let login = crate::access::service_login::app_name(&database);
    let mut written = [0_i64; 200];
    for isolation in [Isolation::Role, Isolation::Path] {
        let operator = Operator::connect(&database.config().clone().with_isolation(isolation)).await.unwrap();
        let mut options = LoginOptions::default();
        options.password = cgk::login::PasswordChange::New;
        let admission = login::admit(&operator, &login, &options).await.unwrap();
        assert_eq!(admission.tenants, 200, "{:?}", admission.failure);
        let config = patient(&as_login(database.config(), &admission)).with_isolation(isolation);
        let db: Db = Db::connect(&config.with_pool_size_max(CONNECTIONS)).await.unwrap();
        let mut backends = BTreeSet::new();
        for count in [20, 200] {
            let plans: Vec<Vec<(usize, bool)>> = (0..CALLERS)
                .map(|_| (0..CALLS).map(|_| (dice.random_range(0..count), dice.random())).collect())
                .collect();
            plans.iter().flatten().for_each(|(number, _)| written[*number] += 1);
            let callers = plans.iter().map(async |plan| {
                let mut found = Vec::new();
                for (number, whole) in plan {
                    found.push(visit(&db, *number, *whole).await?);
                }
                Ok::<_, cgk::Error>(found)
            });
            let found: Vec<Found> = try_join_all(callers).await.unwrap().into_iter().flatten().collect();
            assert_eq!(found.len(), CALLERS * CALLS);
            backends.extend(found.iter().map(|(backend, _)| *backend));
            // As many backends as connections, for however many tenants: none was thrown away, as one with a stranger's statement is.
            assert!(backends.len() <= CONNECTIONS, "{isolation:?}, {count}: {backends:?}");
            // The statement that enters, and those by which the driver looks types up: as many for 200 tenants as for 20.
            let held = found.iter().map(|(_, held)| *held).max();
            assert!(held <= Some(4), "{isolation:?}, {count}: {held:?}");
        }
    }
    for (number, rows) in written.iter().enumerate() {
        let sql = format!("select count(*), count(*) filter (where tag = $1) from tenant_{}.marks", name(number));
        let row = watch.query_one(&sql, &[&name(number)]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), (*rows, *rows), "tenant {number}");
    }
}
