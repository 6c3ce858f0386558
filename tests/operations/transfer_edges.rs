//! What a file cannot carry: it says so, and a tenant is not half there.

use crate::{
    fixture::left_of,
    stage::slug,
    support::cgk::Shell,
    transfer_fixture::{Folder, bare, contents, create, export, import, set},
};
use cgk::{
    ErrorKind,
    lifecycle::{ExportOptions, ImportOptions},
};

/// The rows of a foreign table are on another server.
#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_foreign_table_are_left_out_by_name() {
    let migrations = set(&[(
        "900_far.sql",
        "create foreign table \"Far away\" (id int) server elsewhere; create table near (id int); insert into near values (1)",
    )]);
    let stage = bare(&migrations).await;
    // Without a handler it cannot be read at all: an export that tried would fail.
    stage.run("create foreign data wrapper unread; create server elsewhere foreign data wrapper unread").await;
    create(&stage, &migrations, "acme").await;
    let folder = Folder::new();
    let exported = export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    assert_eq!(exported.left_out, ["Far away"]);

    let options = ImportOptions::default().slug(slug("copy"));
    import(&stage, &migrations, &folder.path("x"), &options).await.unwrap();
    assert_eq!(contents(&stage, "copy").await, contents(&stage, "acme").await);
    assert_eq!(stage.count("select count(*) from pg_class where relkind = 'f' and relname = 'Far away'").await, 2);

    let file = folder.path("y").display().to_string();
    let answer = Shell::on(&stage.database).run(&["tenant:export", "acme", "--to", &file]);
    let said = "the rows of foreign table Far away of tenant acme are not in the file";
    assert!(answer.code == 0 && answer.stderr.contains(said), "{}{}", answer.stdout, answer.stderr);
}

/// A set that is not one transaction: it is refused if it has newer migrations than the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_needs_several_transactions_is_that_of_the_file_or_refused_before_anything_is_made() {
    let procedure = "create procedure fill() language plpgsql as $$ begin insert into orders_again values (1); commit; end $$; create table orders_again (n int)";
    let migrations = set(&[("900_procedure.sql", procedure), ("901_alone.sql", "-- cgk:no-transaction\ncall fill()")]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    let folder = Folder::new();
    export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let options = ImportOptions::default().slug(slug("copy"));
    let newer =
        migrations.clone().with_file(cgk::migrate::Set::Tenant, "902_more.sql", "create table more (id int)").unwrap();
    let error = import(&stage, &newer, &folder.path("x"), &options).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0887", ErrorKind::Refused), "{error:?}");
    assert!(error.to_string().contains("901_alone"), "{error}");
    assert_eq!(left_of(&stage, "copy").await, [false; 3]);

    Box::pin(import(&stage, &migrations, &folder.path("x"), &options)).await.unwrap();
    assert_eq!(contents(&stage, "copy").await, contents(&stage, "acme").await);
}
