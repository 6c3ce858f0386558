//! The service's own copy of cgk's shared set.

use cgk::migrate::{Migrations, Set};
use repositories_api::demo;

/// A file that cgk adds is added here by copying it: `cp ../../migrations/public/*.sql migrations/public/`.
#[test]
fn the_shared_set_begins_with_that_of_cgk() {
    let texts = |migrations: &Migrations| -> Vec<(String, String)> {
        let files = migrations.set(Set::Public).files().iter();
        files.map(|file| (file.id().to_string(), file.sql().to_owned())).collect()
    };
    let (own, bundled) = (texts(&demo::migrations().unwrap()), texts(&Migrations::bundled()));
    assert!(own.len() > bundled.len());
    for (own, bundled) in own.iter().zip(&bundled) {
        assert_eq!(own, bundled);
    }
}
