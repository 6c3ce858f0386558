use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
};

use super::*;

fn installation() -> Installation {
    let found = find().unwrap();
    found.map_or_else(|| fetch(DEFAULT_MAJOR, &|_| {}), Ok).unwrap()
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "still not: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns how many processes have this directory in their command line: the supervisor, initdb and the postmaster.
fn processes(dir: &Path) -> usize {
    let dir = dir.to_str().unwrap();
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    numbers.filter(|entry| read(&entry.path().join("cmdline")).contains(dir)).count()
}

fn gone(dir: &Path) -> bool {
    !dir.exists() && processes(dir) == 0
}

async fn first_column(url: &str, sql: &str) -> String {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_server_answers_and_leaves_nothing() {
    let server = LocalServer::start_default(&|_| {}).unwrap();
    let url = server.url("postgres");
    assert_eq!(first_column(&url, "show server_encoding").await, "UTF8");
    assert_eq!(first_column(&url, "show listen_addresses").await, "");
    assert_eq!(first_column(&url, "show max_connections").await, "100");
    let version = first_column(&url, "show server_version").await;
    assert_eq!(version.split(' ').next().unwrap(), server.installation().version);
    assert!(server.log().contains("ready to accept connections"), "{}", server.log());
    let dir = server.dir().to_owned();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    #[cfg(target_os = "linux")]
    assert!(processes(&dir) >= 2);

    // A client that is still connected must not delay the stop.
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    drop(server);
    assert!(gone(&dir));
    assert!(connection.await.unwrap().is_err());
    drop(client);
}

#[tokio::test]
async fn later_settings_win() {
    let options = LocalServerOptions::new().max_connections(7).setting("max_connections", "9").setting("jit", "on");
    let server = options.start(&installation()).unwrap();
    assert_eq!(first_column(&server.url("postgres"), "show max_connections").await, "9");
    assert_eq!(first_column(&server.url("postgres"), "show jit").await, "on");
}

#[test]
fn a_bad_setting_is_an_error_in_the_servers_words() {
    let base = Scratch::new();
    let arguments = LocalServerOptions::new().setting("no_such_setting", "1").arguments();
    let mut server = LocalServer::spawn(&installation(), &base.0, &arguments).unwrap();
    let error = server.wait_until_ready(START_MAX).unwrap_err();
    assert!(matches!(error, LocalServerError::Start { program: "postgres", .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(r#"FATAL:  unrecognized configuration parameter "no_such_setting""#), "{text}");
    drop(server);
    assert!(base.is_empty());
    assert_eq!(processes(&base.0), 0);
}

#[test]
fn a_failing_initdb_is_an_error_in_its_words() {
    let base = Scratch::new();
    let bin_dir = base.0.join("bin");
    fs::create_dir(&bin_dir).unwrap();
    fs::write(bin_dir.join("initdb"), "#!/bin/sh\necho creating\necho 'initdb: error: no space' >&2\nexit 1\n")
        .unwrap();
    fs::set_permissions(bin_dir.join("initdb"), fs::Permissions::from_mode(0o755)).unwrap();
    let broken = Installation { bin_dir: bin_dir.clone(), ..installation() };
    let mut server = LocalServer::spawn(&broken, &base.0, &[]).unwrap();
    let error = server.wait_until_ready(START_MAX).unwrap_err();
    assert!(error.to_string().ends_with("failed: initdb: error: no space"), "{error}");
    drop(server);
    fs::remove_dir_all(bin_dir).unwrap();
    assert!(base.is_empty());
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let base = Path::new("/no/such/place");
    let mut server = LocalServer::spawn(&installation(), base, &[]).unwrap();
    let error = server.wait_until_ready(START_MAX).unwrap_err();
    assert!(error.to_string().starts_with("could not create /no/such/place/cgk-"), "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("No such file"), "{source}");
}

#[test]
fn a_server_that_never_becomes_ready_is_given_up() {
    let base = Scratch::new();
    let mut server = LocalServer::spawn(&installation(), &base.0, &[]).unwrap();
    let error = server.wait_until_ready(Duration::ZERO).unwrap_err();
    assert!(matches!(error, LocalServerError::Timeout { .. }), "{error:?}");
    // It is dropped so early that it is still in initdb, or has not even started it.
    drop(server);
    assert!(base.is_empty());
    assert_eq!(processes(&base.0), 0);
}

#[test]
fn it_dies_with_its_process() {
    for signal in ["KILL", "INT", "TERM"] {
        let base = Scratch::new();
        let mut child = holder(&base.0).spawn().unwrap();
        let dir = server_of(&mut child);
        assert!(dir.exists());
        // The signal goes to the whole process group, as a terminal does on Ctrl-C.
        kill(signal, &format!("-{}", child.id()));
        // Its standard input stays open until the process has ended. Otherwise the end of the input would end the
        // process normally.
        let input = child.stdin.take();
        assert!(!child.wait().unwrap().success());
        drop(input);
        wait_until("server and directory gone", || gone(&dir) && base.is_empty());
    }
}

#[test]
fn it_dies_with_its_process_during_initdb() {
    let base = Scratch::new();
    let mut child = holder(&base.0).spawn().unwrap();
    let begun = || fs::read_dir(&base.0).unwrap().flatten().any(|entry| entry.path().join("initdb.log").exists());
    wait_until("initdb begun", begun);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("initdb and directory gone", || base.is_empty() && processes(&base.0) == 0);
}

#[test]
fn a_process_that_exits_without_dropping_leaves_nothing() {
    let base = Scratch::new();
    let mut child = holder(&base.0).stdin(Stdio::null()).spawn().unwrap();
    let dir = server_of(&mut child);
    assert!(child.wait().unwrap().success());
    wait_until("server and directory gone", || gone(&dir));
}

/// Runs the same as an ordinary user, if this test runs as root.
#[test]
fn it_works_for_an_ordinary_user() {
    let Some(account) = Account::for_server().unwrap() else { return };
    // The build directory may be closed to others.
    let base = Scratch::new();
    let program = base.0.join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = hold_with(&program, &base.0);
    command.env("CGK_PG_BIN", installation().bin_dir).stdin(Stdio::null());
    isolate(&mut command, Some(account));
    let mut child = command.spawn().unwrap();
    let dir = server_of(&mut child);
    assert!(child.wait().unwrap().success());
    wait_until("server and directory gone", || gone(&dir));
}

/// Not a test: the tests above run this function in another process. It keeps its server until its standard input ends,
/// and does not drop it.
#[test]
fn hold_a_server() {
    if std::env::var_os("CGK_TEST_HOLD").is_none() {
        return;
    }
    let server = LocalServer::start_default(&|_| {}).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let user = runtime.block_on(first_column(&server.url("postgres"), "select current_user::text"));
    assert_eq!(user, "postgres");
    let mut out = std::io::stdout();
    die_of_interrupts();
    std::io::Write::write_all(&mut out, format!("server={}\n", server.dir().display()).as_bytes()).unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    std::mem::forget(server);
}

/// Makes SIGINT end this process, even if the program that started the tests ignores it. The setting is inherited, for
/// example from `nohup` or `&` in a script.
fn die_of_interrupts() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let guard = runtime.enter();
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).unwrap();
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(interrupts.recv());
        std::process::abort();
    });
}

fn holder(base: &Path) -> Command {
    hold_with(&std::env::current_exe().unwrap(), base)
}

fn hold_with(program: &Path, base: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["testing::server::tests::hold_a_server", "--exact", "--nocapture"]);
    command.env("CGK_TEST_HOLD", "1").env("CGK_PG_TMP", base).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Does not close the pipe, because the child prints more later.
fn server_of(child: &mut Child) -> PathBuf {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.contains("server=")).unwrap();
    line.split_once("server=").unwrap().1.into()
}

fn kill(signal: &str, target: &str) {
    let killed = Command::new("/bin/sh").args(["-c", "kill -s \"$1\" -- \"$2\"", "sh", signal, target]).status();
    assert!(killed.unwrap().success());
}

/// A directory for servers' directories, writable by the servers' user.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = scratch_dir().join(format!("{}-base", unique_name()));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        Self(dir)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).unwrap().next().is_none()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn urls_are_encoded() {
    assert_eq!(percent_encode(b"/dev/shm/cgk-1_a.b"), "%2Fdev%2Fshm%2Fcgk-1_a.b");
    assert_eq!(percent_encode("a b?é".as_bytes()), "a%20b%3F%C3%A9");
}

#[test]
fn free_memory_counts_only_for_a_mount() {
    let df = |at| format!("Filesystem 1024-blocks Used Available Capacity Mounted on\ntmpfs 65536 0 65530 0% {at}\n");
    assert_eq!(free_kilobytes(&df("/dev/shm"), "/dev/shm"), Some(65530));
    assert_eq!(free_kilobytes(&df("/dev"), "/dev/shm"), None);
    assert_eq!(free_kilobytes("", "/dev/shm"), None);
}

#[test]
fn errors_are_picked_from_a_log() {
    let log = "2026 LOG:  starting\n2026 FATAL:  no\n2026 LOG:  stopped\n";
    assert_eq!(error_lines(log), "2026 FATAL:  no");
    assert_eq!(error_lines(" something else\n"), "something else");
}
