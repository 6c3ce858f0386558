//! Directories that may contain a PostgreSQL, and the cache for fetched ones.

use super::{account, variable};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Returns the `bin` directories of all fetched servers.
pub(super) fn cached() -> Vec<PathBuf> {
    cache_dir().map(|cache| expand(&cache, "*/bin")).unwrap_or_default()
}

pub(super) fn cache_dir() -> Option<PathBuf> {
    let user = || {
        if account::is_root() {
            return Some(PathBuf::from("/var/cache/cgk"));
        }
        let home = env::home_dir().filter(|home| !home.as_os_str().is_empty());
        if cfg!(target_os = "macos") {
            return Some(home?.join("Library/Caches/cgk"));
        }
        let xdg = variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        Some(xdg.or_else(|| Some(home?.join(".cache")))?.join("cgk"))
    };
    let root = variable("CGK_CACHE_DIR").map(PathBuf::from).or_else(user)?;
    std::path::absolute(root.join("postgres")).ok()
}

/// Returns the directories below `root` that match a pattern with at most one `*` in each segment.
pub(super) fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let matches = |name: &str, before: &str, after: &str| {
        name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
    };
    let mut dirs = vec![root.to_owned()];
    for segment in pattern.split('/') {
        dirs = match segment.split_once('*') {
            None => dirs.into_iter().map(|dir| dir.join(segment)).collect(),
            Some((before, after)) => dirs
                .into_iter()
                .filter_map(|dir| fs::read_dir(dir).ok())
                .flat_map(|entries| entries.flatten())
                .filter(|entry| matches(&entry.file_name().to_string_lossy(), before, after))
                .map(|entry| entry.path())
                .collect(),
        };
    }
    dirs.retain(|dir| dir.is_dir());
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_within_a_segment() {
        let root = std::env::temp_dir().join(format!("cgk-expand-{}", std::process::id()));
        for dir in ["lib/pg15/bin", "lib/pg9/bin", "lib/pg/sbin", "lib/other/bin", "lib/p"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::write(root.join("lib/pg-file"), "").unwrap();
        let mut found = expand(&root, "lib/pg*/bin");
        found.sort();
        assert_eq!(found, [root.join("lib/pg15/bin"), root.join("lib/pg9/bin")]);
        assert_eq!(expand(&root, "lib/pg*5"), [root.join("lib/pg15")]);
        assert_eq!(expand(&root, "lib/pg"), [root.join("lib/pg")]);
        assert!(expand(&root, "missing/*/bin").is_empty());
        fs::remove_dir_all(root).unwrap();
    }
}
