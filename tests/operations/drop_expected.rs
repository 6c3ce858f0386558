//! `tenant:drop` drops what was seen, and finds out before it begins whether it can go on.

use crate::{
    fixture::{dropped, enters, left_of, picture, plain_acme},
    stage::{Stage, connect, must_end, slug},
    support::cgk::Shell,
    transfer_fixture::Folder,
};
use cgk::{
    Db, Error, ErrorKind, TenantError,
    config::Isolation,
    lifecycle::{self, DropOptions, RenameOptions, SuspendOptions},
    migrate::{Migrations, Silent},
};
use std::time::Duration;

async fn drop_with(stage: &Stage, options: &DropOptions) -> Result<lifecycle::Dropped, Error> {
    let operator = stage.operator().await;
    must_end(lifecycle::drop_tenant(&operator, &slug("acme"), options, &mut Silent)).await
}

/// Two renames between the question and its answer: the slug is another organization's.
#[tokio::test(flavor = "multi_thread")]
async fn another_organization_with_the_slug_is_not_dropped() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let preview = lifecycle::preview_drop(&operator, &slug("acme")).await.unwrap();
    for (from, to) in [("acme", "older"), ("globex", "acme")] {
        lifecycle::rename(&operator, &slug(from), &RenameOptions::default().slug(slug(to))).await.unwrap();
    }
    let picture_before = picture(&stage, "acme").await;
    let error = drop_with(&stage, &DropOptions::default().same_organization(&preview)).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0922", ErrorKind::Conflict), "{error}");
    assert_eq!(picture(&stage, "acme").await, picture_before);
    // The control: without the preview it is whichever has the slug.
    dropped(&stage, "acme").await;
    assert_eq!(stage.count("select count(*) from organizations where slug = 'older'").await, 1);
}

/// A tenant that was suspended, exported, and activated meanwhile has rows that the file does not have.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_changed_since_is_not_dropped() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let acme = slug("acme");
    let changes = [
        "update organizations set status = 'active' where slug = 'acme'",
        // Suspended again: the row is another version of itself.
        "update organizations set status = 'active' where slug = 'acme'; update organizations set status = 'suspended' where slug = 'acme'",
        "comment on schema tenant_acme is 'cgk organization 00000000-0000-0000-0000-000000000000'",
    ];
    for change in &changes[..2] {
        lifecycle::suspend(&operator, &acme, &SuspendOptions::default()).await.unwrap();
        let preview = lifecycle::preview_drop(&operator, &acme).await.unwrap();
        stage.run(change).await;
        let picture_before = picture(&stage, "acme").await;
        let error = drop_with(&stage, &DropOptions::default().unchanged_since(&preview)).await.unwrap_err();
        assert!(matches!(&error, Error::Tenant(TenantError::DropOutdated { .. })), "{change}: {error:?}");
        assert_eq!(picture(&stage, "acme").await, picture_before, "{change}");
    }
    let preview = lifecycle::preview_drop(&operator, &acme).await.unwrap();
    stage
        .run(&changes[2].replace(
            "'cgk organization 00000000-0000-0000-0000-000000000000'",
            &format!("'cgk organization {}\nnote'", stage.acme),
        ))
        .await;
    let error = drop_with(&stage, &DropOptions::default().unchanged_since(&preview)).await.unwrap_err();
    assert_eq!(error.code(), "CGK0922", "{error:?}");

    // The control: what is unchanged is dropped.
    let preview = lifecycle::preview_drop(&operator, &acme).await.unwrap();
    drop_with(&stage, &DropOptions::default().unchanged_since(&preview)).await.unwrap();
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
}

/// The command, with a service that activates the tenant while it is exported.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_and_its_drop_are_of_the_same_rows() {
    let stage = Stage::set().await;
    let folder = Folder::new();
    let file = folder.path("acme.cgk").display().to_string();
    // Whoever looks at the size of this table waits for it, and so does the export.
    const LOCK: &str = "lock table tenant_acme.orders in access exclusive mode";
    let holder = stage.holder(LOCK).await;
    let database = stage.database.config().clone();
    let (shell, to) = (Shell::on(&stage.database), file.clone());
    let command = tokio::task::spawn_blocking(move || {
        shell.run(&["tenant:drop", "acme", "--confirm", "acme", "--export", &to, "--lock-timeout", "60s"])
    });
    // What it looks at before the question, and after it has suspended the tenant. Each time the next holder is already in the line.
    let mut holder = holder;
    for _ in 0..2 {
        stage.until_waiting(1).await;
        let next = connect(&stage.database).await;
        crate::stage::run(&next, "begin").await;
        let next = tokio::spawn(async move {
            crate::stage::run(&next, LOCK).await;
            next
        });
        stage.until_waiting(2).await;
        drop_holder(holder).await;
        holder = next.await.unwrap();
    }
    // The export.
    stage.until_waiting(1).await;
    let suspended = "select (status = 'suspended')::int::int8 from organizations where slug = 'acme'";
    assert_eq!(stage.count(suspended).await, 1);
    stage.run("update organizations set status = 'active' where slug = 'acme'").await;
    let db: Db = Db::connect(&database).await.unwrap();
    drop_holder(holder).await;
    let answer = command.await.unwrap();
    assert!(
        answer.code != 0 && answer.stderr.contains("CGK0922"),
        "{}: {}{}",
        answer.code,
        answer.stdout,
        answer.stderr
    );
    assert_eq!(left_of(&stage, "acme").await, [true; 3]);
    enters(&db, "acme").await.unwrap();
}

/// A run that stopped after its export goes on with the same command line.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_drop_with_an_export_continues_with_the_same_command() {
    let stage = Stage::set().await;
    let folder = Folder::new();
    let file = folder.path("acme.cgk").display().to_string();
    let shell = Shell::on(&stage.database);
    let drop = ["tenant:drop", "acme", "--confirm", "acme", "--export", &file, "--wait", "1ms"];
    // A reader of a table that the first batch drops: an export does not mind it.
    let holder = stage.holder("lock table tenant_acme.orders in access share mode").await;
    let answer = shell.run(&drop);
    assert!(answer.code != 0 && answer.stderr.contains("CGK06"), "{}: {}{}", answer.code, answer.stdout, answer.stderr);
    let begun = "select (obj_description('tenant_acme'::regnamespace, 'pg_namespace') ~ 'is being dropped')::int::int8";
    assert_eq!(stage.count(begun).await, 1, "it stopped after it had begun");
    drop_holder(holder).await;

    // Without the file there is nothing to go on with.
    let gone = folder.path("other.cgk").display().to_string();
    let answer = shell.run(&["tenant:drop", "acme", "--confirm", "acme", "--export", &gone]);
    assert!(answer.code != 0 && answer.stderr.contains("CGK0861"), "{}{}", answer.stdout, answer.stderr);
    let answer = shell.run(&["tenant:drop", "acme", "--confirm", "acme", "--export", &file]);
    assert!(
        answer.code == 0 && answer.stderr.contains("An earlier run exported it"),
        "{}{}",
        answer.stdout,
        answer.stderr
    );
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
}

async fn drop_holder(holder: tokio_postgres::Client) {
    holder.execute("rollback", &[]).await.unwrap();
}

/// Something depends on it: it is neither exported nor suspended.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_tenant_is_not_suspended_for_its_export() {
    let stage = Stage::set().await;
    stage.run("create view public.all_orders as select * from tenant_acme.orders").await;
    let folder = Folder::new();
    let file = folder.path("acme.cgk").display().to_string();
    let answer = Shell::on(&stage.database).run(&["tenant:drop", "acme", "--export", &file]);
    assert!(answer.code == 1 && answer.stderr.contains("CGK0862"), "{}{}", answer.stdout, answer.stderr);
    assert_eq!(folder.files(), 0);
    enters(&stage.db, "acme").await.unwrap();
}

/// A table that a DBA has restored into the schema. The operator is no superuser.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_role_is_named_before_anything_is_dropped() {
    let (_database, operator, db, watch) = plain_acme(&Migrations::bundled(), Isolation::Role).await;
    watch.execute("create table tenant_acme.restored (id int)", &[]).await.unwrap();
    let error = must_end(lifecycle::drop_tenant(&operator, &slug("acme"), &DropOptions::default(), &mut Silent))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "CGK0862", "{error:?}");
    assert!(error.to_string().contains("table restored of its schema belongs to role"), "{error}");
    enters(&db, "acme").await.unwrap();
    watch.execute("drop table tenant_acme.restored", &[]).await.unwrap();
    lifecycle::drop_tenant(&operator, &slug("acme"), &DropOptions::default(), &mut Silent).await.unwrap();
}

/// Event triggers that refuse a drop, or fail: one names its log without a schema.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_trigger_that_refuses_is_found_before_anything_is_dropped() {
    let stage = Stage::set().await;
    for body in ["raise exception 'no drop'", "insert into ddl_log values ('dropped')"] {
        stage.run("create table if not exists public.ddl_log (what text)").await;
        stage
            .run(&format!(
                "create function public.on_drop() returns event_trigger language plpgsql as $$ begin {body}; end $$;
                 create event trigger on_drop on sql_drop execute function public.on_drop()"
            ))
            .await;
        let picture_before = picture(&stage, "acme").await;
        let error = drop_with(&stage, &DropOptions::default()).await.unwrap_err();
        assert_eq!(error.code(), "CGK0862", "{body}: {error:?}");
        assert_eq!(picture(&stage, "acme").await, picture_before, "{body}");
        enters(&stage.db, "acme").await.unwrap();
        stage.run("drop event trigger on_drop; drop function public.on_drop()").await;
    }
    // One that lets the ledger go and no other table: the batch ends with the trigger's error instead of trying for ever.
    stage
        .run(
            "create function public.on_drop() returns event_trigger language plpgsql as $$ begin
               if exists (select from pg_catalog.pg_event_trigger_dropped_objects() o where o.object_name = 'orders') then
                 insert into ddl_log values ('dropped'); end if; end $$;
             create event trigger on_drop on sql_drop execute function public.on_drop()",
        )
        .await;
    let error = drop_with(&stage, &DropOptions::default().wait(Duration::from_secs(5))).await.unwrap_err();
    assert!(error.code() == "CGK0901" && format!("{error:?}").contains("ddl_log"), "{error:?}");
    stage.run("drop event trigger on_drop").await;
    dropped(&stage, "acme").await;
}

/// A planned drop that could not be done is refused when it is planned.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_deleted_refuses_a_planned_drop_too() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    stage
        .run(
            "create function public.keep() returns trigger language plpgsql as $$ begin raise exception 'kept'; end $$;
             create trigger keep before delete on organizations for each row execute function public.keep()",
        )
        .await;
    let later = Duration::from_secs(3600);
    let error = lifecycle::schedule_drop(&operator, &slug("acme"), later, &DropOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), "CGK0862", "{error:?}");
    enters(&stage.db, "acme").await.unwrap();
    stage.run("drop trigger keep on organizations").await;
    lifecycle::schedule_drop(&operator, &slug("acme"), later, &DropOptions::default()).await.unwrap();
}
