//! Password hashes: argon2id with the crate's current defaults, computed on separate threads.

use super::error::{AuthError, Result};
use crate::task::in_own_task;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash};
use std::sync::{Arc, OnceLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The maximum length of a password, in bytes. Hashing takes longer for longer passwords.
const BYTES_MAX: usize = 1024;

/// Hashes and compares passwords, with a limit on concurrent work.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    slots: Arc<Semaphore>,
}

/// The outcome of a comparison.
pub(super) enum Compared {
    /// The password is correct, and the hash has the current settings.
    Right,
    /// The password is correct, and this is its hash with the current settings.
    Renewed(String),
    Wrong,
}

impl Hasher {
    pub(super) fn new(at_once_max: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(at_once_max.clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// Returns the hash of a new password.
    pub(super) async fn hash(&self, password: &str, chars_min: usize) -> Result<String> {
        if password.chars().count() < chars_min {
            return Err(AuthError::Invalid { what: "the password", why: "it is too short" });
        }
        if password.len() > BYTES_MAX {
            return Err(AuthError::Invalid { what: "the password", why: "it is longer than 1,024 bytes" });
        }
        let password = password.to_owned();
        Ok(self.run(move || hash(&password)).await)
    }

    /// Compares a password with a stored hash, if there is one. A failed comparison costs at least one hash with the
    /// current settings, also if the password is too long to be valid.
    pub(super) async fn compare(&self, password: &str, stored: Option<&str>) -> Compared {
        // A password that is too long is compared with the dummy hash, as an empty one.
        let (password, stored) = if password.len() > BYTES_MAX { ("", None) } else { (password, stored) };
        let (password, stored) = (password.to_owned(), stored.map(ToOwned::to_owned));
        self.run(move || compare_evenly(&password, stored.as_deref(), compare)).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let slots = Arc::clone(&self.slots);
        // In a separate task: otherwise a call that is no longer polled would keep its slot.
        in_own_task(async move {
            let slot = slots.acquire_owned().await.expect("the semaphore is never closed");
            on_a_thread(slot, work).await
        })
        .await
    }
}

/// Runs work on a thread for blocking work. The thread releases the slot, so a dropped call does not start more work
/// than allowed.
async fn on_a_thread<T: Send + 'static>(slot: OwnedSemaphorePermit, work: impl FnOnce() -> T + Send + 'static) -> T {
    let work = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(slot);
        done
    });
    match work.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is shutting down, and this call with it.
        Err(Err(_)) => std::future::pending().await,
    }
}

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn hash(password: &str) -> String {
    argon2().hash_password(password.as_bytes()).expect("the operating system gives random numbers").to_string()
}

/// Compares a password with a stored hash. If this fails at a lower cost than a current hash, the password is also
/// compared with a dummy hash.
fn compare_evenly(password: &str, stored: Option<&str>, mut compare: impl FnMut(&str, &str) -> Compared) -> Compared {
    // The first comparison creates it.
    let of_nobody = of_nobody();
    let compared = stored.map_or(Compared::Wrong, |stored| compare(password, stored));
    if matches!(compared, Compared::Wrong) && !stored.is_some_and(costs_as_much) {
        compare(password, of_nobody);
    }
    compared
}

fn compare(password: &str, stored: &str) -> Compared {
    let Ok(parsed) = PasswordHash::new(stored) else { return Compared::Wrong };
    match argon2().verify_password(password.as_bytes(), &parsed) {
        Ok(()) if is_current(&parsed) => Compared::Right,
        Ok(()) => Compared::Renewed(hash(password)),
        Err(_) => Compared::Wrong,
    }
}

/// Returns whether a hash has the current settings.
fn is_current(parsed: &PasswordHash) -> bool {
    parsed.algorithm.as_str() == Algorithm::Argon2id.as_str()
        && parsed.version == Some(Version::V0x13.into())
        && Params::try_from(parsed).is_ok_and(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                == (Params::DEFAULT_M_COST, Params::DEFAULT_T_COST, Params::DEFAULT_P_COST)
        })
}

/// Returns whether a comparison with a hash costs at least as much as with a current hash. An unreadable hash costs
/// nothing.
fn costs_as_much(stored: &str) -> bool {
    let cost = |memory: u32, passes: u32| u64::from(memory) * u64::from(passes);
    PasswordHash::new(stored).is_ok_and(|parsed| {
        parsed.algorithm.as_str().parse::<Algorithm>().is_ok()
            && parsed.hash.is_some()
            && Params::try_from(&parsed).is_ok_and(|params| {
                cost(params.m_cost(), params.t_cost()) >= cost(Params::DEFAULT_M_COST, Params::DEFAULT_T_COST)
            })
    })
}

/// Returns a dummy hash that belongs to no user.
fn of_nobody() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| hash("nobody"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    /// The test holds the only slot. If a call needs a slot, it hashes.
    #[tokio::test]
    async fn a_password_that_is_too_long_is_hashed_like_any_other() {
        let stored = hash("hunter42");
        for password in ["hunter43", &"x".repeat(BYTES_MAX + 1)] {
            let hasher = Hasher::new(1);
            assert!(matches!(hasher.compare(password, Some(&stored)).await, Compared::Wrong));
            hasher.slots.close();
            let (password, stored) = (password.to_owned(), stored.clone());
            let compared = tokio::spawn(async move { drop(hasher.compare(&password, Some(&stored)).await) }).await;
            assert!(compared.unwrap_err().is_panic());
        }
    }

    #[tokio::test]
    async fn a_call_that_is_not_polled_keeps_no_slot() {
        let hasher = Hasher::new(1);
        let slot = Arc::clone(&hasher.slots).acquire_owned().await.unwrap();
        let mut left = std::pin::pin!(hasher.run(|| 1));
        assert!(left.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
        drop(slot);
        let next = tokio::time::timeout(std::time::Duration::from_secs(120), hasher.run(|| 2));
        assert_eq!(next.await.expect("it waits for a call that is not polled"), 2);
        assert_eq!(left.await, 1);
    }

    fn weak(password: &str) -> String {
        with_settings(password, 64, 1)
    }

    fn with_settings(password: &str, memory: u32, passes: u32) -> String {
        let params = Params::new(memory, passes, 1, None).unwrap();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password(password.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn a_hash_of_other_settings_is_renewed_behind_the_right_password() {
        assert!(matches!(compare("hunter42", &hash("hunter42")), Compared::Right));
        assert!(matches!(compare("hunter43", &hash("hunter42")), Compared::Wrong));
        assert!(matches!(compare("hunter43", &weak("hunter42")), Compared::Wrong));
        let Compared::Renewed(renewed) = compare("hunter42", &weak("hunter42")) else { panic!("not renewed") };
        assert!(matches!(compare("hunter42", &renewed), Compared::Right));
        // A hash of another algorithm, or a text that is not a hash.
        for foreign in ["$2b$12$abcdefghijklmnopqrstuuVXuT5Y5Ie8Rb6Yl9UaZ9eA1Hk1r3U6K", "x", "", "$argon2id$"] {
            assert!(matches!(compare("hunter42", foreign), Compared::Wrong), "{foreign}");
        }
        // Two hashes of one password differ, and fit in the column.
        assert_ne!(hash("hunter42"), hash("hunter42"));
        assert!((20..=512).contains(&hash("hunter42").len()));
    }

    /// Counted and not timed: which hashes a wrong password is compared with.
    #[test]
    fn a_failed_comparison_costs_at_least_a_hash_of_today() {
        let compared_with = |password: &str, stored: Option<&str>| {
            let mut hashes = Vec::new();
            let compared = compare_evenly(password, stored, |password, hash| {
                hashes.push(if hash == of_nobody() { "of nobody" } else { "stored" });
                compare(password, hash)
            });
            (matches!(compared, Compared::Wrong), hashes)
        };
        let (today, stronger) = (hash("hunter42"), with_settings("hunter42", Params::DEFAULT_M_COST, 3));
        assert_eq!(compared_with("hunter43", Some(&today)), (true, vec!["stored"]));
        assert_eq!(compared_with("hunter43", Some(&stronger)), (true, vec!["stored"]));
        assert_eq!(compared_with("hunter43", None), (true, vec!["of nobody"]));
        // The password of the dummy hash is never accepted.
        assert_eq!(compared_with("nobody", None), (true, vec!["of nobody"]));
        let cut = today.rsplit_once('$').unwrap().0;
        for cheap in [&weak("hunter42"), "$2b$12$abcdefghijklmnopqrstuuVXuT5Y5Ie8Rb6Yl9UaZ9eA1Hk1r3U6K", "x", cut] {
            assert_eq!(compared_with("hunter43", Some(cheap)), (true, vec!["stored", "of nobody"]), "{cheap}");
        }
        // The right password is compared once; a weak hash is then renewed, which costs the same.
        assert_eq!(compared_with("hunter42", Some(&weak("hunter42"))), (false, vec!["stored"]));
    }
}
