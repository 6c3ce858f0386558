//! The migration to memberships on a database that has users, and what code does there that knows of none.

use crate::stage::{Stage, connect, run};
use crate::support::cgk::Shell;
use cgk::testing::TestServer;
use std::{fs, path::Path};
use tokio_postgres::Client;

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
}

const MEMBERS: &str = "
    select string_agg(concat_ws(' ', o.slug, u.email, m.role, case when m.confirmed_at is null then 'invited' end), ', '
                      order by o.slug, u.email)
      from memberships m join users u on u.id = m.user_id join organizations o on o.id = m.organization_id";

#[tokio::test(flavor = "multi_thread")]
async fn every_user_gets_a_membership_and_duplicates_are_named() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let copy = |folder: &str, fits: &dyn Fn(&str) -> bool| {
        for file in fs::read_dir(bundled.join(folder)).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            if fits(&name) {
                shell.write(&format!("migrations/{folder}/{name}"), &fs::read_to_string(file.path()).unwrap());
            }
        }
    };
    shell.write("cgk.toml", "migrations = \"migrations\"\n");
    copy("public", &|name| name < "016");
    copy("tenant", &|_| true);
    for command in [&["setup:database"][..], &["tenant:create", "acme"], &["tenant:create", "globex"]] {
        let answer = shell.run(command);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
    }
    let watch = connect(&database).await;
    run(
        &watch,
        "insert into users (organization_id, email, role, status, created_at)
         select o.id, v.email, v.role::user_role, v.status::user_status, v.at::timestamptz
           from (values ('acme', 'ada@x.io', 'owner', 'active', '2025-01-02'), ('globex', 'ADA@x.io', 'admin', 'active', '2025-01-01'),
                        ('acme', 'ben@x.io', 'member', 'invited', '2025-01-03'), ('acme', 'off@x.io', 'member', 'disabled', '2025-01-04'))
                as v (slug, email, role, status, at)
           join organizations o on o.slug = v.slug;
         insert into sessions (organization_id, user_id, token_hash, expires_at)
         select organization_id, id, sha256(id::text::bytea), now() + interval '1 day' from users",
    )
    .await;

    copy("public", &|name| name >= "016");
    let migrated = shell.run(&["migrate"]);
    assert_eq!(migrated.code, 0, "{}", migrated.stderr);
    let expected = "acme ada@x.io owner, acme ben@x.io member invited, acme off@x.io member, globex ADA@x.io admin";
    assert_eq!(text(&watch, MEMBERS).await, expected);
    assert_eq!(text(&watch, "select count(*)::text from sessions").await, "4");
    let answer = shell.run(&["user:list", "--duplicates", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let [duplicate] = value["duplicates"].as_array().unwrap().as_slice() else { panic!("{value}") };
    // The older one is the person.
    assert_eq!((duplicate["tenant"].as_str(), duplicate["email"].as_str()), (Some("acme"), Some("ada@x.io")));

    // A session needs a membership from now on; the control is that the four above had none before.
    let foreign = "insert into sessions (organization_id, user_id, token_hash, expires_at)
                   select o.id, u.id, sha256('x'), now() + interval '1 day' from organizations o, users u
                    where o.slug = 'globex' and u.email = 'ben@x.io'";
    assert_eq!(watch.execute(foreign, &[]).await.unwrap_err().code().unwrap().code(), "23503");
    let drift = shell.run(&["drift"]);
    assert_eq!(drift.code, 0, "{}{}", drift.stdout, drift.stderr);
}

/// Users and memberships say the same, whichever is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_either_is_one_of_both() {
    let stage = Stage::set().await;
    stage.user(stage.acme, "ada@x.io", "admin").await;
    stage
        .run("insert into users (organization_id, email) select id, 'ben@x.io' from organizations where slug = 'acme'")
        .await;
    let members = async || text(&stage.watch, MEMBERS).await;
    let roles = async || text(&stage.watch, "select string_agg(role::text, ', ' order by email) from users").await;
    assert_eq!(members().await, "acme ada@x.io admin, acme ben@x.io member invited");

    stage.run("update users set status = 'active', role = 'owner' where email = 'ben@x.io'").await;
    assert_eq!(members().await, "acme ada@x.io admin, acme ben@x.io owner");
    stage.run("update memberships set role = 'member'").await;
    assert_eq!(roles().await, "member, member");

    stage.run("update users set role = 'owner'").await;
    stage.run("delete from memberships where user_id = (select id from users where email = 'ben@x.io')").await;
    assert_eq!((members().await, roles().await), ("acme ada@x.io owner".into(), "owner, member".into()));

    // Another home.
    stage.run("update users set organization_id = (select id from organizations where slug = 'globex')").await;
    assert_eq!(members().await, "globex ada@x.io owner, globex ben@x.io member");
    stage.run("delete from users").await;
    assert_eq!(stage.count("select count(*) from memberships").await, 0);
}

/// A person outlives its home organization where it is a member of another one.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_a_member_elsewhere_is_not_deleted_with_its_home() {
    let stage = Stage::set().await;
    for email in ["ada@x.io", "ben@x.io", "guest@x.io", "twin@x.io"] {
        stage.user(stage.acme, email, "owner").await;
    }
    stage.user(stage.globex, "Twin@x.io", "owner").await;
    stage
        .run(
            "insert into memberships (organization_id, user_id, role, confirmed_at)
             select o.id, u.id, 'admin', case when u.email <> 'guest@x.io' then now() end from organizations o, users u
              where o.slug = 'globex' and u.email in ('ada@x.io', 'guest@x.io', 'twin@x.io');
             drop schema tenant_acme cascade;
             delete from organizations where slug = 'acme'",
        )
        .await;
    assert_eq!(text(&stage.watch, MEMBERS).await, "globex Twin@x.io owner, globex ada@x.io admin");
    let homes = "select string_agg(concat_ws(' ', email, role), ', ' order by email) from users";
    assert_eq!(text(&stage.watch, homes).await, "Twin@x.io owner, ada@x.io admin");
}
