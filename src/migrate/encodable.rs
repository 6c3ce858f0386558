//! Checks, before anything runs, whether the database's encoding contains every character of the migration files.
//!
//! A server with the encoding LATIN1 refuses a message that contains `€`, and reports the character by its bytes.
//! Without this check, that would happen at the first schema whose message contains the file, after other schemas were
//! migrated.

use super::{files::file::MigrationFile, migrations::Migrations};
use crate::{
    db::Operator,
    error::{Error, MigrationError, Result, while_doing},
    migration::{FileProblem, Place, Set},
};
use std::collections::BTreeSet;
use tokio_postgres::{
    error::{DbError, SqlState},
    types::Type,
};

/// How many characters are reported at once.
const NAMED_MAX: usize = 20;

/// Refuses files with a character that the database's encoding does not contain, and reports each with its line.
/// Comments do not count: they are sent in ASCII.
///
/// UTF8 needs no query. Another encoding takes one round trip, and one more for each missing character.
pub(crate) async fn check_all(operator: &Operator, migrations: &Migrations) -> Result<()> {
    let files: Vec<&MigrationFile> =
        [Set::Public, Set::Tenant].into_iter().flat_map(|set| migrations.set(set).files()).collect();
    check(operator, &files).await
}

/// Does the same as [`check_all`] for some files.
pub(crate) async fn check(operator: &Operator, files: &[&MigrationFile]) -> Result<()> {
    let encoding = operator.facts().encoding.as_str();
    // SQL_ASCII accepts every byte.
    if matches!(encoding, "UTF8" | "SQL_ASCII") {
        return Ok(());
    }
    let mut characters: BTreeSet<char> = BTreeSet::new();
    for file in files {
        characters.extend(file.sql_for(encoding).chars().filter(|c| !c.is_ascii()));
    }
    let mut problems = Vec::new();
    while !characters.is_empty() && problems.len() < NAMED_MAX {
        let Some(missing) = first_missing(operator, &characters, encoding).await? else { break };
        problems.extend(files.iter().filter_map(|file| problem(file, missing, encoding)));
        characters.remove(&missing);
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Migration(MigrationError::Invalid { problems })) }
}

/// Returns one of the characters that an encoding does not contain.
async fn first_missing(operator: &Operator, characters: &BTreeSet<char>, encoding: &str) -> Result<Option<char>> {
    let doing = || while_doing(format!("look for the files' characters in the encoding {encoding}"));
    let text: String = characters.iter().collect();
    let asked = operator
        .client()
        .query_typed(
            "select pg_catalog.length(pg_catalog.convert($1, 'UTF8', $2))",
            &[(&text.as_bytes(), Type::BYTEA), (&encoding, Type::NAME)],
        )
        .await;
    let Err(error) = asked else { return Ok(None) };
    let named = error.as_db_error().and_then(untranslatable);
    match named.filter(|named| characters.contains(named)) {
        Some(named) => Ok(Some(named)),
        None => Err(doing()(error)),
    }
}

/// Returns the character in an error.
pub(in crate::migrate) fn untranslatable(error: &DbError) -> Option<char> {
    if *error.code() != SqlState::UNTRANSLATABLE_CHARACTER {
        return None;
    }
    let bytes =
        error.message().split_whitespace().filter_map(|word| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    String::from_utf8(bytes.collect()).ok()?.chars().next()
}

/// Returns the position of a character in a file, outside of its comments.
pub(in crate::migrate) fn problem(file: &MigrationFile, character: char, encoding: &str) -> Option<FileProblem> {
    let at = file.sql_for(encoding).find(character)?;
    let place = Place::of(file.sql(), at);
    let problem = format!(
        "the database's encoding {encoding} has no {character:?}, at column {}; remove it, or create the database \
         with the encoding UTF8",
        place.column
    );
    Some(FileProblem { file: file.path().to_owned(), line: Some(place.line), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every database can store the text of a bundled file as it is sent. Some bundled files have non-ASCII characters
    /// in their comments, and an applied file is not edited.
    #[test]
    fn the_bundled_files_are_ascii() {
        let bundled = Migrations::bundled();
        let files = |set| bundled.set(set).files().iter();
        assert!(files(Set::Public).count() >= 9 && files(Set::Tenant).count() >= 7);
        for file in files(Set::Public).chain(files(Set::Tenant)) {
            assert!(file.sql_for("LATIN1").is_ascii(), "{}", file.path().display());
        }
        // The control: such characters exist, and they are in comments.
        assert!(files(Set::Public).any(|file| !file.sql().is_ascii()));
        for file in files(Set::Public).filter(|file| file.id().version.get() > 8) {
            assert!(file.sql().is_ascii(), "{}", file.path().display());
        }
    }
}
