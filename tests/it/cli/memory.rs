//! Memory: a migration may select more than the command can hold.

use crate::support::cgk::Shell;
use cgk::testing::TestServer;
use std::process::{Command, Stdio};

/// The address space that the command gets, in KiB. It needs half of it.
const SPACE: u32 = 400_000;

/// Runs `cgk migrate` with a limit on its address space; returns whether it succeeded, and its messages.
fn migrate_in_space(shell: &Shell) -> (bool, String) {
    let migrate = shell.command(&["migrate", "--tenants", "--no-rehearsal"]);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -v {SPACE} && exec \"$0\" \"$@\""));
    limited.arg(migrate.get_program()).args(migrate.get_args()).current_dir(migrate.get_current_dir().unwrap());
    limited.env_clear().envs(migrate.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = limited.stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn the_rows_of_a_migration_are_not_kept() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    assert_eq!(shell.run(&["setup:database", "-q"]).code, 0);
    assert_eq!(shell.run(&["tenant:create", "acme", "-q"]).code, 0);
    let file = "migrations/tenant/003_looks.sql";
    shell.write(file, "select repeat('x', 1000000) from generate_series(1, 450);");
    let (succeeded, text) = migrate_in_space(&shell);
    assert!(succeeded, "{text}");
    // The control: as much in one value, which the command has to hold.
    shell.write("migrations/tenant/004_looks.sql", "select repeat('x', 450000000);");
    let (succeeded, text) = migrate_in_space(&shell);
    assert!(!succeeded && text.contains("memory"), "{text}");
}
