//! What a tenant does to `memberships` and to the new columns: it reads its own rows, and changes nothing.

use crate::stage::{Stage, slug};

const NEW: &str = "insert into memberships (organization_id, user_id, role, confirmed_at)
                   select id, (select id from users limit 1), 'owner', now() from organizations";

const ATTACKS: &[&str] = &[
    NEW,
    "update memberships set role = 'owner'",
    "delete from memberships",
    "truncate memberships",
    "select role from memberships for update",
    "select holds_address from users",
    "update users set holds_address = true",
    "alter table memberships disable row level security",
    "drop policy memberships_tenant on memberships",
    "select cgk_protect_shared_table('memberships', 'organization_id')",
];

const READ: &str = "select m.user_id from memberships m order by m.user_id";

async fn with_members() -> Stage {
    let stage = Stage::set().await;
    for (organization, name) in [(stage.acme, "acme"), (stage.globex, "globex")] {
        stage.user(organization, &format!("{name}@example.com"), "owner").await;
    }
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_role_reads_its_own_members_and_changes_nothing() {
    let stage = with_members().await;
    for tenant in ["acme", "globex"] {
        assert_eq!(stage.db.tenant(&slug(tenant)).query(READ, &[]).await.unwrap().len(), 1);
        for attack in ATTACKS {
            let outcome = stage.db.tenant(&slug(tenant)).execute(attack, &[]).await;
            let error = outcome.err().unwrap_or_else(|| panic!("{tenant}: {attack}"));
            assert_eq!(error.sqlstate().map(|state| state.code()), Some("42501"), "{attack}: {error:?}");
        }
    }
    assert_eq!(stage.db.platform().query(READ, &[]).await.unwrap().len(), 2);
    // The control: it is the policy that hides the other's row.
    stage.run("alter table memberships disable row level security").await;
    assert_eq!(stage.db.tenant(&slug("acme")).query(READ, &[]).await.unwrap().len(), 2);
}

/// Where the search path keeps tenants apart, the login may change tables; inside a tenant the rows of that tenant.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_inside_a_tenant_reaches_that_tenants_members() {
    let stage = Stage::set_path_mode().await;
    for (organization, name) in [(stage.acme, "acme"), (stage.globex, "globex")] {
        stage.user(organization, &format!("{name}@example.com"), "owner").await;
    }
    let (acme, globex) = (slug("acme"), slug("globex"));
    assert_eq!(stage.db.tenant(&acme).query(READ, &[]).await.unwrap().len(), 1);
    assert_eq!(stage.db.tenant(&acme).execute("update memberships set role = 'member'", &[]).await.unwrap(), 1);
    let other = "insert into memberships (organization_id, user_id, role) values ($1, (select id from users), 'owner')";
    let error = stage.db.tenant(&acme).execute(other, &[&stage.globex]).await.unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42501");
    let owners = "select count(*) from memberships where role = 'owner'";
    assert_eq!(stage.count(owners).await, 1);

    // Whether another organization has an address is not told by an error either.
    let user = "insert into users (organization_id, email) values ($1, 'ACME@example.com')";
    stage.db.tenant(&globex).execute(user, &[&stage.globex]).await.unwrap();
    assert_eq!(stage.count("select count(*) from memberships").await, 3);
}
