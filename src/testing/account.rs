use std::{os::unix::process::CommandExt, process::Command, sync::OnceLock};

use super::LocalServerError;

/// The unprivileged account a server runs as when we are root.
///
/// `std` also drops the supplementary groups when it changes the user, so a `Command` is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// `None` if we are not root; then the server runs as the current user. As root: the user who called sudo,
    /// otherwise `postgres`, otherwise `nobody`. No account is ever created.
    pub(super) fn for_server() -> Result<Option<Self>, LocalServerError> {
        if !is_root() {
            return Ok(None);
        }
        sudo_caller()
            .or_else(|| ["postgres", "_postgres", "nobody"].into_iter().find_map(named))
            .map(Some)
            .ok_or(LocalServerError::NoAccount)
    }

    fn run_as(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

/// Makes a program run like the server: as its user, and without environment variables that change PostgreSQL.
pub(super) fn isolate(command: &mut Command, account: Option<Account>) {
    for (name, _) in std::env::vars_os() {
        // cargo sets LD_LIBRARY_PATH for its child processes.
        if ["PG", "LD_", "DYLD_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    // With another locale, macOS makes the postmaster multi-threaded, and then it refuses to start.
    command.env("LC_ALL", "C");
    // The caller's directory may be closed to the other user.
    command.current_dir("/");
    if let Some(account) = account {
        account.run_as(command);
    }
}

pub(super) fn is_root() -> bool {
    static IS_ROOT: OnceLock<bool> = OnceLock::new();
    *IS_ROOT.get_or_init(|| id(&["-u"]) == Some(0))
}

fn sudo_caller() -> Option<Account> {
    let number = |name| std::env::var(name).ok()?.parse().ok().filter(|id| *id != 0);
    Some(Account { uid: number("SUDO_UID")?, gid: number("SUDO_GID")? })
}

/// initdb looks up its own user, so only an account with a name works.
fn named(user: &str) -> Option<Account> {
    Some(Account { uid: id(&["-u", user])?, gid: id(&["-g", user])? })
}

fn id(args: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(args).output().ok().filter(|output| output.status.success())?;
    parse_id(&String::from_utf8_lossy(&output.stdout))
}

/// macOS shows the ids of `nobody` as -2.
fn parse_id(text: &str) -> Option<u32> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_may_be_negative() {
        assert_eq!(parse_id("101\n"), Some(101));
        assert_eq!(parse_id("-2\n"), Some(u32::MAX - 1));
        assert_eq!(parse_id("4294967294"), Some(u32::MAX - 1));
        assert_eq!(parse_id("id: nobody: no such user"), None);
    }
}
