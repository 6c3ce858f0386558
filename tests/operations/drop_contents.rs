//! `tenant:drop`: everything of the tenant goes, and nothing of anybody else.

use crate::{
    fixture::{dropped, enters, left_of, picture, refused_as, until},
    stage::{HANG, Stage, connect, must_end, slug},
    support::cgk::Shell,
};
use cgk::{
    ErrorKind,
    lifecycle::{self, CreateOptions, Creation},
    migrate::{Migrations, Silent},
};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Stdio,
    time::Instant,
};

/// Objects of every kind, that need each other in both directions.
const OBJECTS: &str = r#"
set search_path = tenant_acme;
create type mood as enum ('good', 'bad');
create domain positive as int check (value > 0);
create type pair as (a int, b mood);
create sequence free_numbers;
create function next_number() returns bigint language sql as 'select nextval(''tenant_acme.free_numbers'')';
create table "Odd ""name" (id int primary key default next_number(), m mood, p positive, q pair[]);
create table first (id int primary key, second int);
create table second (id int primary key, first int references first);
alter table first add foreign key (second) references second;
create table self (id int primary key, parent int references self);
create table parts (id int, day date) partition by range (day);
create table parts_1 partition of parts for values from ('2026-01-01') to ('2027-01-01') partition by range (id);
create table parts_1_1 partition of parts_1 for values from (0) to (10);
create table parent (id serial primary key, at timestamptz default now());
create table child () inherits (parent);
create table needs_public (user_id uuid references public.users, organization_id uuid references public.organizations on delete cascade);
create view one as select id from first;
create view two as select id from one;
create materialized view three as select id from two;
create function watch() returns trigger language plpgsql as 'begin return new; end';
create trigger watched before insert on first for each row execute function watch();
create statistics correlated on id, day from parts;
create index on parts (id);
create rule "of one" as on insert to one do instead nothing;
alter table first enable row level security;
create policy all_rows on first using (id in (select id from second));
create type lengths as range (subtype = int);
create table booked (at lengths, exclude using gist (at with &&));
create function moods_less(a mood, b mood) returns bool language sql immutable as 'select a::text < b::text';
create function moods_compared(a mood, b mood) returns int language sql immutable as 'select 0';
create function mood_number(m mood) returns int language sql immutable as 'select 1';
create function moods_compared_with(a mood, b int) returns int language sql immutable as 'select 0';
create function mood_less_than(a mood, b int) returns bool language sql immutable as 'select true';
create operator <<< (leftarg = mood, rightarg = mood, function = moods_less);
create operator <<< (leftarg = mood, rightarg = int, function = mood_less_than);
create operator family moods using btree;
create operator class by_mood for type mood using btree family moods as operator 1 <<<, function 1 moods_compared(mood, mood);
alter operator family moods using btree add operator 1 <<< (mood, int), function 1 (mood, int) moods_compared_with(mood, int);
create cast (mood as int) with function mood_number(mood) as assignment;
create cast (pair as mood) with inout;
create aggregate biggest (int) (sfunc = int4larger, stype = int);
create collation plain (locale = 'C');
create text search dictionary plain (template = simple);
create text search configuration words (copy = pg_catalog.simple);
create conversion latin for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8;
create table rows_of_it as select generate_series(1, 1000) as n;
analyze rows_of_it;
reset search_path;
create table public.other_things (id int primary key);
"#;

async fn everything_goes_and_nothing_else(stage: &Stage) {
    stage.run(OBJECTS).await;
    let objects = "select count(*) from pg_largeobject_metadata";
    let own_object = "do $$ declare r name := (select rolname from pg_roles where rolname = 'cgk_acme_' || cgk_database_tag());
        begin perform lo_create(0); if r is not null then execute format('alter large object %s owner to %I', lo_create(0), r); end if; end $$";
    stage.run(own_object).await;
    let by_role = left_of(stage, "acme").await[2];
    let (globex, before) = (picture(stage, "globex").await, stage.count(objects).await);
    assert_eq!(before, 1 + i64::from(by_role));
    let shared =
        "select string_agg(concat_ws(' ', c.oid, c.relname, c.relfilenode, c.relhastriggers), ',' order by c.oid)
                  from pg_class c where relnamespace = 'public'::regnamespace";
    let public: String = stage.watch.query_one(shared, &[]).await.unwrap().get(0);
    let operator = stage.operator().await;
    let acme = slug("acme");
    let preview = lifecycle::preview_drop(&operator, &acme).await.unwrap();
    assert!(preview.rows_estimated >= 1000 && preview.bytes > 32 * 1024, "{preview:?}");
    assert_eq!(preview.blocked_by, [""; 0]);
    assert_eq!((preview.has_begun, preview.large_objects), (false, u64::from(by_role)));
    let tables = stage
        .count(
            "select count(*) from pg_class where relnamespace = 'tenant_acme'::regnamespace and relkind in ('r', 'p')",
        )
        .await;
    assert_eq!(i64::try_from(preview.tables).unwrap(), tables);

    let done = dropped(stage, "acme").await;
    assert!(done.relations as i64 > tables && !done.was_begun, "{done:?}");
    assert_eq!(left_of(stage, "acme").await, [false; 3]);
    assert_eq!(stage.count(objects).await, 1, "another's large object stays");
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::NotFound);
    assert_eq!(picture(stage, "globex").await, globex);
    assert_eq!(stage.watch.query_one(shared, &[]).await.unwrap().get::<_, String>(0), public);
    enters(&stage.db, "globex").await.unwrap();

    // Repeated, there is nothing; and the slug is free.
    let error = lifecycle::drop_tenant(&operator, &acme, &Default::default(), &mut Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let created = lifecycle::create(&operator, &stage.db, &Migrations::bundled(), &acme, &CreateOptions::default())
        .await
        .unwrap();
    assert_eq!(created.creation, Creation::New);
    assert_ne!(created.tenant.id, stage.acme);
    enters(&stage.db, "acme").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_role_everything_goes_and_nothing_else() {
    everything_goes_and_nothing_else(&Stage::set().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_path_everything_goes_and_nothing_else() {
    everything_goes_and_nothing_else(&Stage::set_path_mode().await).await;
}

/// More tables than one transaction of a server with default settings can drop.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_tables_are_dropped_with_the_default_number_of_locks() {
    let stage = Stage::set().await;
    // The tables are made in several transactions, for the same reason.
    for _ in 0..4 {
        stage
            .run("do $$ begin for i in 1..500 loop execute format('create table tenant_acme.%I (id bigserial primary key, note text)',
                  't' || gen_random_uuid()); end loop; end $$")
            .await;
    }
    // The control: all at once does not work, or else this server has more locks than the test is about.
    let locks = stage
        .count("select current_setting('max_locks_per_transaction')::int8 * current_setting('max_connections')::int8")
        .await;
    if locks <= 10_000 {
        let refused = stage.watch.execute("drop schema tenant_acme cascade", &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "53200");
    }
    let globex = picture(&stage, "globex").await;
    let done = dropped(&stage, "acme").await;
    assert!(done.relations >= 2000 && done.batches > 1, "{done:?}");
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
    assert_eq!(picture(&stage, "globex").await, globex);
}

/// A half-made tenant, and one whose schema is lost, can be dropped too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_is_dropped_as_well() {
    let stage = Stage::set().await;
    stage
        .run("update organizations set status = 'onboarding' where slug = 'acme'; drop schema tenant_globex cascade")
        .await;
    for tenant in ["acme", "globex"] {
        dropped(&stage, tenant).await;
        assert_eq!(left_of(&stage, tenant).await, [false; 3]);
    }
}

/// Two calls at once: one tenant is dropped, once, and neither leaves anything.
#[tokio::test(flavor = "multi_thread")]
async fn two_calls_at_once_drop_one_tenant() {
    let stage = Stage::set().await;
    stage.run(OBJECTS).await;
    let call = async || {
        let operator = stage.operator().await;
        lifecycle::drop_tenant(&operator, &slug("acme"), &Default::default(), &mut Silent).await
    };
    let (one, other) = must_end(async { tokio::join!(call(), call()) }).await;
    assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
    for error in [one.err(), other.err()].into_iter().flatten() {
        assert!(matches!(error.code(), "CGK0401" | "CGK0408"), "{error:?}");
    }
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
}

/// A transaction that is inside commits before anything is dropped; who comes later is refused.
#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_transactions_that_are_inside() {
    let stage = Stage::set().await;
    let service = connect(&stage.database).await;
    service.execute("begin", &[]).await.unwrap();
    service.query_one("select cgk_enter('acme')", &[]).await.unwrap();
    let before = stage.count("select count(*) from pg_class where relnamespace = 'tenant_acme'::regnamespace").await;
    let operator = stage.operator().await;
    let dropping = tokio::spawn(async move {
        lifecycle::drop_tenant(&operator, &slug("acme"), &Default::default(), &mut Silent).await
    });
    until(&stage, "it is marked", "select status = 'suspended' from organizations where slug = 'acme'").await;
    assert_eq!(must_end(refused_as(&stage.db, "acme")).await, ErrorKind::Suspended);
    let now = stage.count("select count(*) from pg_class where relnamespace = 'tenant_acme'::regnamespace").await;
    assert_eq!(now, before, "nothing is dropped while somebody is inside");
    service.query_one("select public.cgk_check('acme')", &[]).await.unwrap();
    service.execute("commit", &[]).await.unwrap();
    must_end(dropping).await.unwrap().unwrap();
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_wants_the_slug_twice() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let shown = |arguments: &[&str], code: i32, text: &str| {
        let answer = shell.run(arguments);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert_eq!(answer.code, code, "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    };
    let before = picture(&stage, "acme").await;
    shown(&["tenant:drop", "acme", "--plan"], 0, "ROWS (ESTIMATE)");
    shown(&["tenant:drop", "acme", "--plan", "--json"], 0, r#""dropped":false"#);
    shown(&["tenant:drop", "acme"], 2, "Add --confirm acme");
    shown(&["tenant:drop", "acme", "--confirm", "globex"], 2, "the name given is not acme");
    shown(&["tenant:drop", "unknown", "--confirm", "unknown"], 1, "CGK0401");
    shown(&["tenant:drop", "acme", "--plan", "--confirm", "acme"], 2, "cannot be used with");
    assert_eq!(picture(&stage, "acme").await, before);
    shown(&["tenant:drop", "acme", "--confirm", "acme", "--json"], 0, r#""dropped":true"#);
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
    shown(&["tenant:drop", "acme", "--confirm", "acme"], 1, "CGK0401");
}

/// Ctrl-C at the question ends the command before it has done anything, and it says so.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_at_the_question_changes_nothing() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let before = picture(&stage, "acme").await;
    let pty = rustix_openpty::openpty(None, None).unwrap();
    let mut command = shell.command(&["tenant:drop", "acme"]);
    let input = pty.user.try_clone().unwrap();
    let mut child = command.stdin(Stdio::from(input)).stderr(Stdio::from(pty.user)).spawn().unwrap();
    drop(command);
    let mut terminal = File::from(pty.controller);
    let (mut screen, mut buffer) = (String::new(), [0; 1024]);
    let mut interrupted = false;
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        screen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        if !interrupted && screen.contains("Type acme to drop the tenant: ") {
            interrupted = true;
            let pid = child.id().to_string();
            assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(130), "{screen}");
    assert!(screen.contains("interrupted: nothing was changed"), "{screen}");
    assert_eq!(picture(&stage, "acme").await, before);
}

/// On a terminal it asks; another word changes nothing.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_the_slug_is_typed() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    for (typed, code, gone) in [("globex\n", 2, false), ("\n", 2, false), ("acme\n", 0, true)] {
        let pty = rustix_openpty::openpty(None, None).unwrap();
        let mut command = shell.command(&["tenant:drop", "acme"]);
        let input = pty.user.try_clone().unwrap();
        let mut child = command.stdin(Stdio::from(input)).stderr(Stdio::from(pty.user)).spawn().unwrap();
        drop(command);
        let mut terminal = File::from(pty.controller);
        let mut screen = String::new();
        let began = Instant::now();
        while !screen.contains("Type acme to drop the tenant: ") {
            let mut buffer = [0; 1024];
            let length = terminal.read(&mut buffer).unwrap();
            screen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            assert!(began.elapsed() < HANG, "{screen}");
        }
        assert!(screen.contains("TABLES"), "what would be lost comes before the question: {screen}");
        terminal.write_all(typed.as_bytes()).unwrap();
        // What it says must be read, or it waits for us.
        while terminal.read(&mut [0; 1024]).is_ok_and(|length| length > 0) {}
        assert_eq!(child.wait().unwrap().code(), Some(code), "{typed:?}");
        assert_eq!(left_of(&stage, "acme").await[1], !gone, "{typed:?}");
    }
}
