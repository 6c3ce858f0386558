//! `cgk_protect_shared_table`: who sees which rows of a table that was given the policies.

use crate::stage::{Stage, slug};
use cgk::{Db, Error};

const TABLE: &str = "
    create table public.notes (id int primary key, organization_id uuid, secret text default 'hidden');
    insert into public.notes select 1, id from public.organizations where slug = 'acme';
    insert into public.notes select 2, id from public.organizations where slug = 'globex'";

async fn ids(db: &Db, tenant: &str) -> Result<Vec<i32>, Error> {
    let rows = db.tenant(&slug(tenant)).query("select id from public.notes order by id", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reads_its_own_rows_and_only_the_columns_that_were_named() {
    let stage = Stage::set().await;
    stage.run(TABLE).await;
    // The control: with a right and no policy, every row is seen.
    stage.run("grant select (id) on public.notes to public").await;
    assert_eq!(ids(&stage.db, "acme").await.unwrap(), [1, 2]);
    stage.run("select cgk_protect_shared_table('notes', 'organization_id', '{id}')").await;

    assert_eq!(ids(&stage.db, "acme").await.unwrap(), [1]);
    assert_eq!(ids(&stage.db, "globex").await.unwrap(), [2]);
    let secret = stage.db.tenant(&slug("acme")).query("select secret from public.notes", &[]).await;
    assert_eq!(secret.unwrap_err().sqlstate().unwrap().code(), "42501");
    let all = stage.db.platform().query("select id from public.notes", &[]).await.unwrap();
    assert_eq!(all.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_columns_for_tenants_shows_them_nothing() {
    let stage = Stage::set().await;
    stage.run(TABLE).await;
    stage.run("select cgk_protect_shared_table('notes', 'organization_id')").await;
    assert_eq!(ids(&stage.db, "acme").await.unwrap_err().sqlstate().unwrap().code(), "42501");
    // Also with a right that somebody gave: no policy lets a row through.
    stage.run("grant select on public.notes to public").await;
    assert_eq!(ids(&stage.db, "acme").await.unwrap(), [0; 0]);
    assert_eq!(stage.db.platform().query("select id from public.notes", &[]).await.unwrap().len(), 2);
}

/// Where the search path keeps tenants apart, the login is the same inside and outside; the setting decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_path_mode_sees_inside_a_tenant_that_tenants_rows() {
    let stage = Stage::set_path_mode().await;
    stage.run(TABLE).await;
    stage.run("select cgk_protect_shared_table('notes', 'organization_id', '{id}')").await;
    assert_eq!(ids(&stage.db, "acme").await.unwrap(), [1]);
    assert_eq!(stage.db.platform().query("select id from public.notes", &[]).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_no_organization_is_seen_outside_of_tenants_only() {
    let stage = Stage::set_path_mode().await;
    stage.run(TABLE).await;
    stage.run("select cgk_protect_shared_table('notes', null)").await;
    assert_eq!(ids(&stage.db, "acme").await.unwrap(), [0; 0]);
    assert_eq!(stage.db.platform().query("select id from public.notes", &[]).await.unwrap().len(), 2);
}
