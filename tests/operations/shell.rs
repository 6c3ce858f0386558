//! `tenant:shell`: psql in one tenant.

use crate::{
    fixture::until,
    stage::{Stage, slug},
    support::cgk::{Answer, Shell},
};
use cgk::{
    ErrorKind,
    config::TargetHost,
    lifecycle::{self, ShellAccess, ShellOptions},
};
use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, UnixStream},
};

fn in_acme(shell: &Shell, flags: &[&str], statements: &[&str]) -> Answer {
    let mut arguments = [&["tenant:shell", "acme", "-q"], flags, &["--", "-XAtq"]].concat();
    arguments.extend(statements.iter().flat_map(|statement| ["-c", statement]));
    shell.run(&arguments)
}

async fn role(stage: &Stage, slug: &str) -> String {
    stage.rows("select 'cgk_' || $1 || '_' || cgk_database_tag()", &[&slug]).await[0].get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_is_in_the_tenant_and_reset_role_stays_there() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let acme = role(&stage, "acme").await;
    let who = "select current_user, current_schema(), current_setting('app.current_organization_id'), current_setting('application_name')";
    let expected = format!("{acme}|tenant_acme|{}|cgk shell acme", stage.acme);
    for before in
        [&[][..], &["reset role"], &["reset all"], &["discard all"], &["set session authorization default"], &["\\c"]]
    {
        let answer = in_acme(&shell, &[], &[before, &[who]].concat());
        assert_eq!((answer.code, answer.stdout.trim()), (0, &*expected), "{before:?}: {}", answer.stderr);
    }
    let answer = in_acme(&shell, &[], &["select * from tenant_globex.customers"]);
    assert!(answer.code == 1 && answer.stderr.contains("permission denied"), "{}", answer.stderr);
    // What is not prevented, as the documentation says.
    let operator = stage.database.config().target().user().unwrap().to_owned();
    for leaves in ["set role none", &format!("set session authorization \"{operator}\"")] {
        let answer = in_acme(&shell, &[], &[leaves, "select current_user"]);
        assert_eq!(answer.stdout.trim(), operator, "{leaves}: {}", answer.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_write_transactions_are_read_only() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let insert = "insert into customers (email) values ('new@x')";
    let rows = "select count(*) from tenant_acme.customers";
    let answer = in_acme(&shell, &[], &[insert]);
    assert!(answer.code == 1 && answer.stderr.contains("read-only transaction"), "{}", answer.stderr);
    assert_eq!(stage.count(rows).await, 0);
    assert_eq!(in_acme(&shell, &["--write"], &[insert]).code, 0);
    assert_eq!(stage.count(rows).await, 1);
    // What is not prevented, as the documentation says.
    assert_eq!(
        in_acme(
            &shell,
            &[],
            &["set default_transaction_read_only = off", "insert into customers (email) values ('other@x')"]
        )
        .code,
        0
    );
    assert_eq!(stage.count(rows).await, 2);
}

/// Listens on a port of this machine, and passes on to the server what is said there, as it is or as a pooler that ignores the
/// start-up parameter `options`.
async fn pooler(stage: &Stage, keeps_options: bool) -> u16 {
    let [TargetHost::Socket { directory, port }] = stage.database.config().target().hosts() else {
        panic!("this test needs the private server")
    };
    let server = Path::new(directory).join(format!(".s.PGSQL.{port}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = UnixStream::connect(&server).await.unwrap();
            tokio::spawn(async move {
                let length = client.read_u32().await.unwrap();
                let mut body = vec![0; length as usize - 4];
                client.read_exact(&mut body).await.unwrap();
                // The version, then names and values, each ended by a zero byte.
                let (version, names) = body.split_at(4);
                let words: Vec<&[u8]> = names.split(|byte| *byte == 0).collect();
                let kept = words.chunks(2).filter(|pair| keeps_options || pair[0] != b"options");
                let names: Vec<u8> = kept.flatten().flat_map(|word| [*word, b"\0"].concat()).collect();
                let message =
                    [&(names.len() as u32 + 8 - 1).to_be_bytes(), version, &names[..names.len() - 1]].concat();
                server.write_all(&message).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_ignores_the_options_is_refused() {
    let stage = Stage::set().await;
    let user = stage.database.config().target().user().unwrap().to_owned();
    let who = "select current_user";
    for (isolation, keeps_options) in [("role", true), ("role", false), ("path", false)] {
        let port = pooler(&stage, keeps_options).await;
        let url = format!("postgresql://{user}@127.0.0.1:{port}/{}?sslmode=disable", stage.database.name());
        let shell = Shell::on(&stage.database).set("DATABASE_URL", &url).set("CGK_ISOLATION", isolation);
        let answer = in_acme(&shell, &[], &[who]);
        if keeps_options {
            assert_eq!((answer.code, answer.stdout.trim()), (0, &*role(&stage, "acme").await), "{}", answer.stderr);
        } else {
            assert!(answer.code != 0 && answer.stdout.is_empty(), "{}{}", answer.stdout, answer.stderr);
            let setting = if isolation == "role" { "(role)" } else { "(search_path)" };
            for part in ["CGK0980", setting, "CGK_DIRECT_URL"] {
                assert!(answer.stderr.contains(part), "{part}: {}", answer.stderr);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_path_isolation_psql_stays_the_operator() {
    let stage = Stage::set_path_mode().await;
    let shell = Shell::on(&stage.database).set("CGK_ISOLATION", "path");
    let answer = in_acme(&shell, &[], &["select current_user, current_schema()"]);
    let operator = stage.database.config().target().user().unwrap().to_owned();
    assert_eq!(answer.stdout.trim(), format!("{operator}|tenant_acme"), "{}", answer.stderr);
    let said = shell.run(&["tenant:shell", "acme", "--", "-XAtc", "select 1"]).stderr;
    assert!(said.contains("as the operator") && said.contains("read-only"), "{said}");

    let operator = stage.operator().await;
    let options = ShellOptions::default().access(ShellAccess::Write).system_roots("/etc/roots.pem");
    let prepared = lifecycle::shell(&operator, &slug("acme"), &options).await.unwrap();
    assert_eq!(prepared.role(), None);
    let command = prepared.command("psql", ["-x".into()]);
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_str().unwrap()).collect();
    assert!(arguments[1].starts_with("PROMPT1=acme write @ ") && arguments.last() == Some(&"-x"), "{arguments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_cannot_be_entered_gets_no_shell() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    assert_eq!(shell.run(&["tenant:suspend", "acme"]).code, 0);
    for (arguments, exit, says) in [
        (["tenant:shell", "acme"], 1, "CGK0402"),
        (["tenant:shell", "akme"], 1, "CGK0401"),
        (["tenant:shell", "Acme"], 2, "CGK0101"),
    ] {
        let answer = shell.run(&arguments);
        assert!(
            answer.code == exit && answer.stderr.contains(says),
            "{arguments:?}: {} {}",
            answer.code,
            answer.stderr
        );
    }
    let error = lifecycle::shell(&stage.operator().await, &slug("acme"), &ShellOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Suspended);
    let answer = Shell::on(&stage.database).set("PATH", "/nowhere").run(&["tenant:shell", "globex"]);
    assert!(answer.code == 1 && answer.stderr.contains("apt install postgresql-client"), "{}", answer.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_and_ctrl_c_are_those_of_psql() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    shell.write("fails.sql", "select 1/0;\n");
    let arguments = ["tenant:shell", "globex", "--", "-X", "-v", "ON_ERROR_STOP=1", "-f", "fails.sql"];
    assert_eq!(shell.run(&arguments).code, 3);
    assert_eq!(shell.run(&["tenant:shell", "globex", "--", "--no-such-option"]).code, 1);

    let mut command = shell.command(&["tenant:shell", "globex", "--", "-X"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"select pg_sleep(600);\n").unwrap();
    let sleeps = "select exists (select from pg_stat_activity where datname = current_database()
                    and application_name = 'cgk shell globex' and wait_event = 'PgSleep')";
    until(&stage, "psql sleeps", sleeps).await;
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    // psql cancels the statement, and ends a script that is interrupted with 3; cgk would end with 130.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("canceling statement"), "{:?} {said}", output.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_in_the_environment_alone() {
    let stage = Stage::set().await;
    let mut url = stage.database.config().url_of(stage.database.config().target().user().unwrap(), Some("s3cr3t"));
    url.push_str(if url.contains('?') { "&options=-c%20work_mem%3D7MB" } else { "?options=-c%20work_mem%3D7MB" });
    let shell = Shell::on(&stage.database).set("DATABASE_URL", &url).set("PGSERVICE", "elsewhere");
    let commands = ["\\! tr '\\0' ' ' < /proc/$PPID/cmdline; echo", "\\! echo $PGPASSWORD", "show work_mem"];
    let answer = in_acme(&shell, &[], &commands);
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{} {}", answer.stdout, answer.stderr);
    assert!(lines[0].contains("PROMPT1=acme @") && !lines[0].contains("s3cr3t"), "{lines:?}");
    assert_eq!(lines[1..], ["s3cr3t", "7MB"]);
}
