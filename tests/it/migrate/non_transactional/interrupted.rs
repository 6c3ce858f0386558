//! A run that is cut short, killed or refused in the middle continues, and nothing is done twice.

use super::*;
use crate::stage::slug;
use crate::support::cgk::Shell;

/// What an observer was told beside the results.
#[derive(Default)]
struct Notices(Vec<String>);

impl migrate::Observer for Notices {
    fn notice(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

/// The error of a lost connection says where the file stands. A tenant whose creation was interrupted stays closed.
#[tokio::test]
async fn a_lost_connection_is_told_with_its_statement_and_an_unfinished_tenant_with_its_command() {
    let sql =
        "-- cgk:no-transaction\ncreate table two ();\nselect pg_terminate_backend(pg_backend_pid()) from public.ends;";
    let (database, files, _, raw) = with_files(&["acme", "globex"], &[("002_x.sql", sql)]).await;
    raw.run("create table public.ends (i int); update organizations set status = 'onboarding' where slug = 'globex'")
        .await;
    let migrations = files.load();
    migrate::rehearse(&database.operator().await.unwrap(), &migrations).await.unwrap();
    raw.run("insert into public.ends values (1)").await;
    let operator = database.operator().await.unwrap();
    let report = migrate_one(&operator, &migrations, "acme").await.unwrap();
    let error = failure(&report, "acme");
    let text = error.to_string();
    assert!(error.code() == "CGK0206" && text.contains("statement 2 of 2") && text.contains("002_x.sql:3"), "{text}");
    assert!(exists(&raw, "tenant_acme.two").await, "the statement before it stays");
    raw.run("delete from public.ends").await;
    let operator = database.operator().await.unwrap();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let mut notices = Notices::default();
    let report = migrate::run(&operator, &migrations, planned, &mut notices).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (2, 0), "{report:?}");
    let named: Vec<_> = notices.0.iter().filter(|text| text.contains("cgk tenant:create")).collect();
    assert!(named.len() == 1 && named[0].contains("cgk tenant:create globex"), "{:?}", notices.0);
}

/// `kill -9` of the client between any two messages and in the middle of any of them.
#[tokio::test]
async fn a_run_cut_at_any_message_is_carried_on_and_does_nothing_twice() {
    let (database, files, operator, raw) = with_files(&[], &[]).await;
    let first = files.load();
    files.tenant("002_steps.sql", STEPS);
    let migrations = files.load();
    let db = database.db().await.unwrap();
    let proxy = Proxy::to(&database).await;
    let victim_config = proxy.config().clone().with_application_name("victim");
    let (mut cuts, mut halves) = (0, 0);
    for how in [Cut::Before, Cut::After] {
        for messages in 0..200 {
            let slug = format!("t{messages}_{}", if how == Cut::Before { "before" } else { "after" });
            as_if_new(&raw).await;
            lifecycle::create(&operator, &db, &first, &slug.parse().unwrap(), &CreateOptions::default()).await.unwrap();
            let victim = Operator::connect(&victim_config).await.unwrap();
            proxy.cut_after(messages, how);
            let outcome = migrate_one(&victim, &migrations, &slug).await;
            drop(victim);
            if proxy.spare() {
                assert_eq!(outcome.unwrap().failed(), 0);
                assert_eq!(faults(&raw, &slug).await, Vec::<String>::new());
                break;
            }
            cuts += 1;
            until_gone(&raw, "victim").await;
            halves += usize::from(exists(&raw, &format!("tenant_{slug}.schema_migration_steps")).await);
            let report = migrate_one(&operator, &migrations, &slug).await.unwrap();
            assert_eq!(report.failed(), 0, "{how:?} {messages}: {report:?}");
            assert_eq!(faults(&raw, &slug).await, Vec::<String>::new(), "{how:?} {messages}");
        }
    }
    say(&format!("{cuts} runs were cut, {halves} of them in the middle of the file"));
    assert!(cuts > 60 && halves > 40, "{cuts} {halves}: this test proved little");
    let told = format!("{halves} left a part, which the next run carried on");
    score::note(
        4,
        "file without a transaction, connection cut at each message, not carried on exactly",
        cuts,
        0,
        &told,
    );
}

/// The control: a runner that records a statement in a transaction of its own, before or after, is caught by the same cuts.
#[tokio::test]
async fn the_cuts_catch_a_runner_that_records_apart() {
    let (database, _files, _operator, raw) = with_files(&["acme"], &[]).await;
    let proxy = Proxy::to(&database).await;
    let target = proxy.config().target().to_string();
    let through = format!("{target}?application_name=victim&sslmode=disable");
    for record_first in [true, false] {
        let mut caught = 0;
        for (how, messages) in [Cut::Before, Cut::After].into_iter().flat_map(|how| (0..9).map(move |n| (how, n))) {
            raw.run("drop table if exists public.naive; create table public.naive (done int); insert into public.naive values (0); truncate tenant_acme.marks").await;
            proxy.cut_after(messages, how);
            naive(&Raw::connect(&through).await, record_first).await;
            proxy.spare();
            until_gone(&raw, "victim").await;
            naive(&Raw::connect(&url(&database, None)).await, record_first).await;
            let right: bool = raw.one("select count(*) = 4 and count(distinct tag) = 4 from tenant_acme.marks").await;
            caught += usize::from(!right);
        }
        assert!(caught > 0, "record_first = {record_first}");
        let how = if record_first { "recorded first" } else { "recorded afterwards" };
        score::control(4, "a step recorded in a transaction of its own, connection cut", 18, caught, how);
    }
}

async fn naive(raw: &Raw, record_first: bool) {
    for step in 0..4 {
        let record = format!("update public.naive set done = {} where done = {step}", step + 1);
        let work = format!(
            "do $$ begin if (select done from public.naive) <= {step} then insert into tenant_acme.marks values ('{step}'); end if; end $$"
        );
        let outcome = if record_first {
            let due = format!("select 1 / (case when (select done from public.naive) <= {step} then 1 else 0 end)");
            match raw.try_run(&due).await {
                Err(error) if error.is_closed() || error.code().is_none() => return,
                Err(_) => continue,
                Ok(()) => {}
            }
            match raw.try_run(&record).await {
                Ok(()) => raw.try_run(&format!("insert into tenant_acme.marks values ('{step}')")).await,
                error => error,
            }
        } else {
            match raw.try_run(&work).await {
                Ok(()) => raw.try_run(&record).await,
                error => error,
            }
        };
        if outcome.is_err() {
            return;
        }
    }
}

/// The server's side of it: the backend is terminated, whatever it is doing.
#[tokio::test]
async fn a_backend_killed_at_any_moment_leaves_a_file_that_can_be_carried_on() {
    let mut random = seeded("steps killed");
    let (database, files, operator, raw) = with_files(&[], &[]).await;
    let first = files.load();
    files.tenant("002_steps.sql", STEPS);
    let migrations = files.load();
    let db = database.db().await.unwrap();
    let config = database.config().clone().with_application_name("victim");
    let (mut cut, mut tried) = (0, 0);
    let mut span = Duration::from_millis(60);
    // Which moments are hit depends on the machine: it goes on until enough were cut short.
    while tried < rounds(15) || (cut < rounds(15) / 5 && tried < rounds(15) * 20) {
        tried += 1;
        let slug = format!("t{tried}");
        as_if_new(&raw).await;
        lifecycle::create(&operator, &db, &first, &slug.parse().unwrap(), &CreateOptions::default()).await.unwrap();
        let victim = Operator::connect(&config).await.unwrap();
        let began = std::time::Instant::now();
        let run = async { (migrate_one(&victim, &migrations, &slug).await, began.elapsed()) };
        let kill = async {
            tokio::time::sleep(span.mul_f64(random.random_range(0.0..1.0))).await;
            raw.all::<bool>("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'victim'").await;
        };
        let ((outcome, elapsed), ()) = tokio::join!(run, kill);
        drop(victim);
        until_gone(&raw, "victim").await;
        match outcome {
            Ok(report) if report.failed() > 0 => {
                assert_eq!(failure(&report, &slug).kind(), ErrorKind::Unavailable, "{report:?}");
                cut += 1;
            }
            Ok(_) => span = (span + elapsed) / 2,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                cut += 1;
            }
        }
        let report = migrate_one(&operator, &migrations, &slug).await.unwrap();
        assert_eq!(report.failed(), 0, "{report:?}");
        assert_eq!(faults(&raw, &slug).await, Vec::<String>::new());
    }
    let told = format!("{cut} of {tried} runs were cut short");
    say(&told);
    assert!(cut >= rounds(15) / 5, "only {cut} runs were cut short: this test proved nothing");
    score::note(4, "file without a transaction terminated, not carried on exactly", tried, 0, &told);
}

/// The statement of a transaction that the server did not begin must not run without one: it would stay, and run again.
#[tokio::test]
async fn a_begin_that_is_refused_lets_nothing_run_without_a_transaction() {
    let text = "-- cgk:no-transaction\ninsert into marks values ('first');\ninsert into marks values ('second');";
    let (database, files, _operator, raw) = with_files(&["acme"], &[("002_steps.sql", text)]).await;
    let marks = "select coalesce(string_agg(tag, ' ' order by tag), '') from tenant_acme.marks";
    let proxy = Proxy::to(&database).await;
    let operator = Operator::connect(proxy.config()).await.unwrap();
    let migrations = files.load();
    // The first statement's, and then the second's: by then the first is carried out.
    for (skipped, left) in [(0_usize, ""), (1, "first")] {
        let mut before = Some(skipped);
        let (met, meets) = (Arc::new(AtomicBool::new(false)), "begin;\nreset role; reset all;");
        let is_met = Arc::clone(&met);
        proxy.rewrite(move |text| {
            let left = before.filter(|_| text.starts_with(meets))?;
            before = left.checked_sub(1);
            // As the server refuses it where a cancel meets its first statement.
            before.is_none().then(|| {
                is_met.store(true, Ordering::Relaxed);
                format!("!{text}")
            })
        });
        let report = migrate_all(&operator, &migrations).await.unwrap();
        assert!(met.load(Ordering::Relaxed), "the message was not met");
        assert_eq!(failure(&report, "acme").sqlstate().unwrap().code(), "42601", "{report:?}");
        assert_eq!(raw.one::<String>(marks).await, left);
        assert_eq!(versions(&raw, "tenant_acme").await, [1]);
    }
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (1, 0), "{report:?}");
    assert_eq!(raw.one::<String>(marks).await, "first second");
    // The control: sent without a look at BEGIN's answer, the statement stays.
    let (begun, stayed) = tokio::join!(
        biased;
        raw.try_run("!egin"),
        raw.try_run("insert into tenant_acme.marks values ('third')"),
    );
    assert!(begun.is_err() && stayed.is_ok());
    assert_eq!(raw.one::<String>(marks).await, "first second third");
}

/// No schema gets a file that differs from what another one has started: that one could not be finished any more.
#[tokio::test]
async fn a_file_that_is_half_done_must_stay_what_it_was() {
    let sql = |second: &str, third: &str| {
        format!("-- cgk:no-transaction\ninsert into marks values ('a');\n{second};\n-- a note\n{third};")
    };
    let breaks = "select 1 / (case when current_schema = 'tenant_acme' then 0 else 1 end)";
    let (_database, files, operator, raw) =
        with_files(&["acme", "globex"], &[("004_s.sql", &sql("insert into marks values ('b')", breaks))]).await;
    let (migrations, acme) = (files.load(), Scope::Only(vec![slug("acme")]));
    let planned = migrate::plan_fleet(&operator, &migrations, acme, Target::Head).await.unwrap();
    let report = migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();
    assert_eq!(refused(&report, "acme").sqlstate.code(), "22012");
    let before = (picture(&raw, "tenant_acme").await, picture(&raw, "tenant_globex").await);

    // Whatever a run is for, and also where another file is pending.
    let half_done = async |says: &str, state: &str| {
        let migrations = files.load();
        let globex = slug("globex");
        for scope in [Scope::Everything, Scope::Public, Scope::Only(vec![globex.clone()])] {
            let error = migrate::plan_fleet(&operator, &migrations, scope, Target::Head).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Drift, "CGK0609"), "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
        }
        let error = migrate_all(&operator, &migrations).await.unwrap_err();
        assert_eq!(error.code(), "CGK0609", "{error:?}");
        let (db, options) = (Db::connect(operator.config()).await.unwrap(), CreateOptions::default());
        let error = lifecycle::create(&operator, &db, &migrations, &slug("initech"), &options).await.unwrap_err();
        assert_eq!(error.code(), "CGK0609", "{error:?}");
        let fleet = migrate::read_state(&operator, &migrations).await.unwrap();
        let acme = &fleet.tenants[0];
        let SchemaState::Diverged(divergence) = &acme.state else { panic!("{acme:?}") };
        assert_eq!(divergence.summary(), state);
        assert_eq!(acme.started().unwrap().done, 2, "{acme:?}");
        assert_eq!((picture(&raw, "tenant_acme").await, picture(&raw, "tenant_globex").await), before);
    };
    files.tenant("004_s.sql", &sql("insert into marks values ('B')", "select 1"));
    half_done("an executed statement was edited", "1 migration edited").await;
    files.tenant("004_s.sql", "-- cgk:no-transaction\ninsert into marks values ('a')");
    half_done("fewer statements", "1 migration edited").await;
    // The mark is no comment: without it, the others would get the file in one transaction.
    files.tenant(
        "004_s.sql",
        sql("insert into marks values ('b')", "select 1").trim_start_matches("-- cgk:no-transaction"),
    );
    half_done("no longer says that it runs without a transaction", "1 migration edited").await;
    // A file that comes before it, as from the merge of another branch: the half done one would wait for it for ever.
    files.tenant("004_s.sql", &sql("insert into marks values ('b')", "select 1"));
    files.tenant("003_late.sql", "create table late ()");
    half_done("003_late, which comes before it, is not applied", "1 migration out of order").await;
    files.without("003_late.sql");
    files.without("004_s.sql");
    for text in ["create table other ()", "-- cgk:no-transaction\ncreate table other ()"] {
        files.tenant("005_other.sql", text);
        half_done("its file is missing", "1 migration gone").await;
    }
    // Nothing is pending, and it is not at head.
    files.without("005_other.sql");
    half_done("its file is missing", "1 migration gone").await;

    // An applied file was edited as well: the state is that, and how far the started one got is said beside it.
    files.tenant("004_s.sql", &sql("insert into marks values ('b')", "insert into marks values ('c')"));
    files.tenant("001_first.sql", &format!("{FIRST}\nselect 1;"));
    let state = migrate::read_state(&operator, &files.load()).await.unwrap();
    let [acme, globex] = &state.tenants[..] else { panic!("{state:?}") };
    assert!(matches!(&acme.state, SchemaState::Diverged(why) if why.edited.len() == 1), "{acme:?}");
    assert!(matches!(&globex.state, SchemaState::Diverged(_)) && globex.started().is_none(), "{globex:?}");
    assert_eq!(acme.started().unwrap().done, 2, "{acme:?}");
    files.tenant("001_first.sql", FIRST);

    // What was not carried out may be mended, and comments and line ends are no part of what was.
    let mended = sql("insert into marks values ('b')", "insert into marks values ('c')").replace("a note", "another");
    files.tenant("004_s.sql", &mended.replace('\n', "\r\n"));
    let state = migrate::read_state(&operator, &files.load()).await.unwrap();
    let started = state.tenants[0].started().unwrap();
    assert!(matches!(state.tenants[0].state, SchemaState::Behind { pending: 1 }), "{state:?}");
    assert_eq!((started.id.to_string().as_str(), started.done, started.statements), ("004_s", 2, Some(3)));
    assert_eq!(state.tenants[1].started(), None);
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0);
    for tenant in ["acme", "globex"] {
        let tags: Vec<String> = raw.all(&format!("select tag from tenant_{tenant}.marks order by 1")).await;
        assert_eq!(tags, ["a", "b", "c"], "{tenant}");
    }
    assert!(plan_all(&operator, &files.load()).await.unwrap().is_empty());
    let state = migrate::read_state(&operator, &files.load()).await.unwrap();
    assert!(state.tenants.iter().all(|tenant| tenant.state.is_at_head() && tenant.started().is_none()), "{state:?}");
}

/// A run that is killed in the first statement leaves a record of nothing. It is in the way of no other file.
#[tokio::test]
async fn a_record_of_no_statement_stops_no_other_file() {
    let steps = "-- cgk:no-transaction\nselect 1 / 0;\nselect 2;";
    let (_database, files, operator, raw) = with_files(&["acme", "globex"], &[("002_s.sql", steps)]).await;
    let record = |done: i32| {
        format!(
            "create table tenant_acme.schema_migration_steps (version bigint primary key, name text not null, done integer
                 not null, begun boolean not null, checksum text not null, started_at timestamptz default now(),
                 changed_at timestamptz default now());
             insert into tenant_acme.schema_migration_steps values (2, 's', {done}, false, '')"
        )
    };
    raw.run(&record(0)).await;
    files.without("002_s.sql");
    files.tenant("003_other.sql", "create table other ()");
    // In one transaction with the others, it cannot be removed: the next run finds none.
    let together = async || {
        let (migrations, options) = (files.load(), RunOptions::default().unrehearsed().all_or_nothing());
        let planned = plan_all(&operator, &migrations).await.unwrap();
        migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await
    };
    let stopped = together().await;
    let stale = |error: &Error| error.code() == "CGK0608";
    assert!(stopped.as_ref().is_err_and(stale) || stopped.as_ref().is_ok_and(|r| r.failed() > 0), "{stopped:?}");
    assert_eq!(versions(&raw, "tenant_globex").await, [1], "the control: nothing is applied");
    assert!(!exists(&raw, "tenant_acme.schema_migration_steps").await);
    raw.run(&record(0)).await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (2, 0), "{report:?}");
    assert!(!exists(&raw, "tenant_acme.schema_migration_steps").await);
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 3]);
    // The control: a record of one statement.
    raw.run(&record(1)).await;
    files.tenant("004_last.sql", "create table last ()");
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap_err().code(), "CGK0609");
}

/// A creation that has stopped in a file that was removed is not finished without it.
#[tokio::test]
async fn a_half_made_tenant_is_not_finished_without_the_file_that_it_has_started() {
    let (_database, files, operator, raw) = with_files(&[], &[]).await;
    // A procedure that commits cannot share a transaction with the other files.
    files.tenant("002_commit.sql", "create procedure end_one() language plpgsql as 'begin commit; end'");
    let text = "-- cgk:no-transaction\ninsert into marks values ('b');\ncall end_one();\nselect nothing;";
    files.tenant("003_steps.sql", text);
    let (db, acme, options) = (Db::connect(operator.config()).await.unwrap(), slug("acme"), CreateOptions::default());
    let create = async || lifecycle::create(&operator, &db, &files.load(), &acme, &options).await;
    let failed = create().await.unwrap_err();
    assert_eq!(raw.one::<i64>("select done::bigint from tenant_acme.schema_migration_steps").await, 2, "{failed:?}");
    std::fs::remove_file(files.path().join("tenant/003_steps.sql")).unwrap();
    let refused = create().await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Drift, "CGK0609"), "{refused:?}");
    assert_eq!(raw.one::<String>("select status::text from organizations where slug = 'acme'").await, "onboarding");
    // The control: with a file that can be finished.
    files.tenant("003_steps.sql", &text.replace("select nothing", "select 1"));
    create().await.unwrap();
    assert_eq!(raw.one::<String>("select status::text from organizations where slug = 'acme'").await, "active");
    assert_eq!(raw.one::<i64>("select count(*) from tenant_acme.marks").await, 1);
}

#[tokio::test]
async fn a_half_done_file_of_the_shared_schema_that_was_removed_is_named() {
    let (database, files, operator, raw) = with_files(&["acme"], &[]).await;
    files.public("900_s.sql", "-- cgk:no-transaction\ncreate table public.half ();\nselect nothing;");
    let failed = migrate_all(&operator, &files.load()).await;
    assert!(exists(&raw, "public.half").await, "{failed:?}");
    std::fs::remove_file(files.path().join("public/900_s.sql")).unwrap();
    let error = plan_all(&operator, &files.load()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Drift, "CGK0609"), "{error:?}");
    let state = migrate::read_state(&operator, &files.load()).await.unwrap();
    assert!(matches!(state.public, SchemaState::Diverged(_)), "{state:?}");
    // The control: without the record nothing is wrong.
    raw.run("drop table public.schema_migration_steps").await;
    assert!(plan_all(&operator, &files.load()).await.unwrap().is_empty());
    assert!(migrate::read_state(&operator, &files.load()).await.unwrap().public.is_at_head());
    // What it made belongs to no migration, so the record of the shared schema does not have it.
    let unexpected = async || {
        let report = cgk::drift::verify(&operator, &files.load(), &Scope::Everything).await.unwrap();
        let public = report.public.expect("the shared schema is compared");
        assert!(public.not_compared.is_none(), "{public:?}");
        public.differences.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(unexpected().await.len(), 1);
    raw.run("drop table public.half").await;
    assert_eq!(unexpected().await, [""; 0]);
    // By hand while a file is partially applied, and finished then: the one is not recorded, the other is.
    files.public("901_s.sql", "-- cgk:no-transaction\ncreate table public.whole ();\nselect nothing;");
    migrate_all(&operator, &files.load()).await.unwrap_err();
    // The comparison and the state say whose the table is.
    let report = cgk::drift::verify(&operator, &files.load(), &Scope::Everything).await.unwrap();
    let (public, state) = (report.public.unwrap(), migrate::read_state(&operator, &files.load()).await.unwrap());
    assert_eq!(public.differences.len(), 1, "{public:?}");
    // And no statement would undo what the file has done.
    assert!(public.fix_script().contains("-- begin;") && public.fix_script().lines().all(|l| l.starts_with("--")));
    assert_eq!((&public.started, public.started.as_ref().unwrap().done), (&state.public_started, 1));
    // So do the doctor and a repair.
    let shell = Shell::on(&database).set("CGK_MIGRATIONS", files.path().to_str().unwrap());
    let answer = shell.run(&["migrate:repair", "--comment", "--public"]);
    let text = "901_s is partially applied (1 of 2 statements): what these statements did remains until `cgk migrate` finishes it";
    assert!(answer.stdout.contains(text) && answer.code == 7, "{}{}", answer.stdout, answer.stderr);
    let answer = shell.run(&["migrate:repair", "--comment", "--public", "--json"]);
    let text = r#""started":{"migration":"901_s","statements_done":1,"statements":2,"next":{"statement":2,"line":3,"unclear":false}}"#;
    assert!(answer.stdout.contains(text), "{}", answer.stdout);
    let found = shell.run(&["doctor"]).stdout;
    for text in [
        "1 migration is pending; 901_s is partially applied (1 of 2 statements)",
        "1 difference is found between schemas and migrations - public: 901_s is partially applied (1 of 2 statements)",
        "cgk migrate finishes what is partially applied",
    ] {
        assert!(found.split_whitespace().collect::<Vec<_>>().join(" ").contains(text), "{text}: {found}");
    }
    raw.run("create table public.between ()").await;
    files.public("901_s.sql", "-- cgk:no-transaction\ncreate table public.whole ();\nselect 1;");
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0);
    assert_eq!(unexpected().await, ["table between: not from any migration"]);
    raw.run("drop table public.between").await;
    assert_eq!(unexpected().await, [""; 0]);
    // A file before it in the same run is recorded, whatever happens to the second one.
    files.public("902_first.sql", "create table public.first ();");
    files.public("903_s.sql", "-- cgk:no-transaction\ncreate table public.second ();\nselect nothing;");
    migrate_all(&operator, &files.load()).await.unwrap_err();
    raw.run("create table public.by_hand ()").await;
    assert_eq!(unexpected().await, ["table by_hand: not from any migration", "table second: not from any migration"]);
    raw.run("drop table public.second, public.schema_migration_steps").await;
    std::fs::remove_file(files.path().join("public/903_s.sql")).unwrap();
    files.public("904_last.sql", "create table public.last ();");
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0);
    assert_eq!(unexpected().await, ["table by_hand: not from any migration"]);
}

#[tokio::test]
async fn a_partition_between_two_states_is_detached_to_the_end() {
    let first = "create table p (id int) partition by list (id); create table p1 partition of p for values in (1); create table marks (tag text)";
    let sql = "-- cgk:no-transaction\nset lock_timeout = '60ms';\nalter table p detach partition p1 concurrently;\ninsert into marks values ('after')";
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", first)]);
    drop(tenants(&database, &files.load(), &["acme"]).await);
    let mut session = database.config().session().clone();
    session.lock_timeout = Duration::from_millis(60);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let raw = Raw::on(&database).await;
    files.tenant("002_detach.sql", sql);
    let holder = Raw::on(&database).await;
    holder.run("begin; select * from tenant_acme.p").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert!(failure(&report, "acme").sqlstate().is_some(), "{report:?}");
    // The control: it is neither here nor there.
    assert!(
        raw.one::<bool>("select inhdetachpending from pg_inherits where inhrelid = 'tenant_acme.p1'::regclass").await
    );
    holder.run("rollback").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(raw.one::<i64>("select count(*) from pg_inherits where inhrelid = 'tenant_acme.p1'::regclass").await, 0);
    assert_eq!(raw.one::<i64>("select count(*) from tenant_acme.marks").await, 1);
}

/// A file that stops in the tenant acme after two statements, and with one row in `public.gate` after four.
const GATED: &str = "-- cgk:no-transaction
insert into marks values ('a');
insert into marks values ('b');
select 1 / (case when current_schema = 'tenant_acme' and (select count(*) from public.gate) < 1 then 0 else 1 end);
insert into marks values ('c');
select 1 / (case when current_schema = 'tenant_acme' and (select count(*) from public.gate) < 2 then 0 else 1 end);
";

/// A saved plan has how far a file got in each schema. If that has changed, the plan is out of date.
#[tokio::test]
async fn a_saved_plan_has_the_progress_of_a_file() {
    let (database, files, operator, raw) = with_files(&["acme", "globex"], &[("002_s.sql", GATED)]).await;
    raw.run("create table public.gate ()").await;
    let migrations = files.load();
    let done = async || raw.one::<i64>("select done::bigint from tenant_acme.schema_migration_steps").await;
    let marks = async || raw.one::<String>("select string_agg(tag, '' order by tag) from tenant_acme.marks").await;
    let saved = async || {
        let saved = migrate::SavedPlan::of(&operator, &plan_all(&operator, &migrations).await.unwrap());
        serde_json::to_value(&saved).unwrap()
    };
    let differences = async |saved: &serde_json::Value| {
        let saved: migrate::SavedPlan = serde_json::from_value(saved.clone()).unwrap();
        saved.differences(&operator, &plan_all(&operator, &migrations).await.unwrap())
    };
    let fresh = saved().await;
    assert_eq!(migrate_all(&operator, &migrations).await.unwrap().failed(), 1);
    let found = differences(&fresh).await;
    // The other tenant has the file.
    assert!(found.len() == 2 && found[0].ends_with("with 2 statements of 002_s done now"), "{found:?}");

    let shell = Shell::on(&database).set("CGK_MIGRATIONS", files.path().to_str().unwrap());
    assert_eq!(shell.run(&["migrate", "--plan-out", "plan.json"]).code, 0);
    let stopped = saved().await;
    assert_eq!((stopped["tenants"][0]["started"]["statements_done"].as_u64(), done().await), (Some(2), 2));
    assert_eq!(differences(&stopped).await, Vec::<String>::new(), "the control");

    // Another run goes further.
    raw.run("insert into public.gate default values").await;
    assert_eq!(migrate_all(&operator, &migrations).await.unwrap().failed(), 1);
    assert_eq!((done().await, marks().await), (4, "abc".into()));
    let found = differences(&stopped).await;
    assert!(
        matches!(&found[..], [only] if only.contains("2 statements of 002_s done then") && only.contains("4 statements")),
        "{found:?}"
    );
    // It is started again, the documented way.
    let further = plan_all(&operator, &migrations).await.unwrap();
    raw.run("drop table tenant_acme.schema_migration_steps").await;
    assert_eq!(differences(&stopped).await.len(), 1);
    let answer = shell.run(&["migrate", "--apply", "plan.json"]);
    assert!(answer.code == 1 && answer.stderr.contains("the plan is out of date"), "{}", answer.stderr);
    assert_eq!(marks().await, "abc", "nothing is run again");

    // What changes between the comparison and the schema's turn is found then.
    let exactly = RunOptions::default().unrehearsed().exactly_as_planned();
    let report = migrate::run_with(&operator, &migrations, further, &exactly, &mut Silent).await.unwrap();
    assert_eq!(failure(&report, "acme").code(), "CGK0608", "{report:?}");
    assert_eq!(marks().await, "abc");
    // The control: a plan of that state is executed, and so is one that continues.
    let again = plan_all(&operator, &migrations).await.unwrap();
    let report = migrate::run_with(&operator, &migrations, again, &exactly, &mut Silent).await.unwrap();
    assert_eq!((failure(&report, "acme").code() != "CGK0608", marks().await), (true, "aabbcc".into()), "{report:?}");
    raw.run("insert into public.gate default values").await;
    let on = plan_all(&operator, &migrations).await.unwrap();
    let report = migrate::run_with(&operator, &migrations, on, &exactly, &mut Silent).await.unwrap();
    assert_eq!((report.failed(), marks().await), (0, "aabbcc".into()), "{report:?}");
}

/// The same for the shared schema. A plan of an earlier version of cgk has no progress, and is read as before.
#[tokio::test]
async fn a_saved_plan_has_the_progress_of_the_shared_schema_and_an_earlier_plan_none() {
    let (_database, files, operator, raw) = with_files(&["acme"], &[]).await;
    files.public("900_s.sql", "-- cgk:no-transaction\ncreate table public.half ();\nselect nothing;");
    let migrations = files.load();
    let saved = migrate::SavedPlan::of(&operator, &plan_all(&operator, &migrations).await.unwrap());
    let differences = async |saved: &migrate::SavedPlan| {
        saved.differences(&operator, &plan_all(&operator, &migrations).await.unwrap())
    };
    assert_eq!(differences(&saved).await, Vec::<String>::new(), "the control");
    let stopped = migrate_all(&operator, &migrations).await;
    assert!(exists(&raw, "public.half").await, "{stopped:?}");
    let found = differences(&saved).await;
    assert!(
        matches!(&found[..], [only] if only.starts_with("public: ") && only.ends_with("with 1 statement of 900_s done now")),
        "{found:?}"
    );
    let mut earlier = serde_json::to_value(&saved).unwrap();
    earlier["v"] = 1.into();
    let earlier: migrate::SavedPlan = serde_json::from_value(earlier).unwrap();
    assert_eq!(differences(&earlier).await, Vec::<String>::new());
    // The control: its ledger is compared.
    files.public("900_s.sql", "-- cgk:no-transaction\ncreate table public.half ();\nselect 1;");
    let mended = files.load();
    let planned = plan_all(&operator, &mended).await.unwrap();
    assert_eq!(earlier.differences(&operator, &planned).len(), 1);
    let mut later = serde_json::to_value(&saved).unwrap();
    later["v"] = 3.into();
    let later: migrate::SavedPlan = serde_json::from_value(later).unwrap();
    assert!(matches!(&differences(&later).await[..], [only] if only.contains("format 3")));
}
