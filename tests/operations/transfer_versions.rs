//! Files of `tenant:export` from other major versions of PostgreSQL. `scripts/pg-matrix.sh` runs these tests on one server
//! after another with one folder for all.

use crate::{
    stage::{say, slug},
    transfer_fixture::{Folder, bare, contents, export, import, rich},
};
use cgk::lifecycle::{Archive, ExportOptions, ImportOptions};
use std::{fs, path::PathBuf};

/// The folder with the files of all servers; without it, the file of this server is the only one.
const FOLDER: &str = "CGK_TRANSFER_FOLDER";

/// The contents without the triggers that partitions have from their table: version 14 calls them internal, and does not list them.
fn comparable(contents: &str) -> Vec<&str> {
    contents.lines().filter(|line| !(line.starts_with("parts_") && line.contains(" touch_parts "))).collect()
}

/// Exports a tenant with every type, and imports this file and those that other servers have left in the folder.
#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_every_server_are_imported() {
    let (source, migrations) = rich("acme").await;
    let version: i32 = source.rows("select current_setting('server_version_num')::int / 10000", &[]).await[0].get(0);
    let own = Folder::new();
    let folder = std::env::var_os(FOLDER).map_or_else(|| own.path("."), PathBuf::from);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{version}.cgk"));
    let _ = fs::remove_file(&file);
    export(&source, "acme", &file, &ExportOptions::default()).await;
    fs::write(folder.join(format!("{version}.txt")), contents(&source, "acme").await).unwrap();

    let mut imported = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|kind| kind != "cgk") {
            continue;
        }
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap();
        let target = bare(&migrations).await;
        import(&target, &migrations, &path, &ImportOptions::default()).await.unwrap();
        let found = contents(&target, "acme").await;
        assert!(comparable(&found) == comparable(&expected), "{} into {version}: {found}", path.display());
        // The control: a row that differs is seen.
        target.run("delete from tenant_acme.parent where id = 2").await;
        assert!(comparable(&contents(&target, "acme").await) != comparable(&expected));
        assert_eq!(Archive::open(&path).unwrap().slug(), &slug("acme"));
        imported.push(path.file_stem().unwrap().to_string_lossy().into_owned());
    }
    imported.sort_unstable();
    assert!(imported.contains(&version.to_string()), "{imported:?}");
    say(&format!("imported into PostgreSQL {version}: files of {}", imported.join(", ")));
}
