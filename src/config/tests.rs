//! Tests with complete connection strings and environments, as users have them.

mod layers;
mod libpq;
mod poolers;
mod refusals;
mod secrets;
mod urls;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::env::Sources;
use super::{Config, ConfigError, Overrides, load};

/// A directory that is removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(files: &[(&str, &str)]) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cgk-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            fs::write(path.join(name), text).unwrap();
        }
        Scratch(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        self.load_with(Overrides::default(), variables)
    }

    fn load_with(&self, overrides: Overrides, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        load::load(overrides, &Sources::of(&self.0, variables))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A remaining temporary directory does not affect other tests.
        let _ = fs::remove_dir_all(&self.0);
    }
}
