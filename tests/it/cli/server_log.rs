//! What the first commands on a new database leave in the server's log: an operator who reads it finds no errors.

use crate::support::cgk::Shell;
use cgk::testing::{LocalServer, create_database};
use cgk::{Config, ident::Ident};

/// The errors in a log.
fn errors(log: &str) -> Vec<&str> {
    let is_error = |line: &&str| ["ERROR:", "FATAL:", "PANIC:"].iter().any(|level| line.contains(level));
    log.lines().filter(is_error).collect()
}

#[tokio::test]
async fn a_first_setup_leaves_no_error_in_the_servers_log() {
    // A server of its own: the log of the shared one has the errors of all tests.
    let server = tokio::task::spawn_blocking(|| LocalServer::start_default(&|_| {})).await.unwrap().unwrap();
    let name = Ident::new("shop").unwrap();
    create_database(&Config::from_url(&server.url("postgres")).unwrap(), &name, None).await.unwrap();
    let url = server.url("shop");
    let shell = Shell::new().set("DATABASE_URL", &url);
    for command in
        ["setup:database --app-role app", "tenant:create acme", "migrate", "drift", "tenant:list", "migrate:status"]
    {
        let arguments: Vec<&str> = command.split(' ').collect();
        let answer = shell.run(&arguments);
        assert_eq!(answer.code, 0, "{command}: {}", answer.stderr);
        let log = server.log();
        assert_eq!(errors(&log), Vec::<&str>::new(), "{command}:\n{log}");
    }
    // The control: an error is in the log, and found there.
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_typed("select public.cgk_missing()", &[]).await.unwrap_err();
    assert_eq!(errors(&server.log()).len(), 1);
}
