//! The service's own set begins with cgk's shared files.

use cgk::migrate::{Migrations, Set};
use repositories_api::demo;

/// The files are links to cgk's own. One that cgk adds needs a link here.
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
