//! Parses names of files and folders into a version and a name. An error says why this is not possible.

use crate::{migration::MigrationId, version::Version};

const SHAPE: &str = "is not the name of a migration: the form is 001_what_it_does.sql, with a number, _ and a name; \
                     rename the file, or move it away";
const NO_NAME: &str = "the form is 001_what_it_does.sql";

/// Files beside migrations that are not migrations, and that no tool would run.
pub(in crate::migrate) fn is_left_aside(file_name: &str) -> bool {
    const KNOWN: &[&str] = &["README.md", "migration_lock.toml", "atlas.sum", "meta"];
    let undo = file_name.strip_prefix('U').and_then(|rest| rest.split_once("__"));
    let is_undo = undo.is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    let number = file_name.split_once(".undo.").map(|(number, _)| number);
    let postgrator = number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    let sql = file_name.ends_with(".sql");
    file_name.starts_with('.')
        || KNOWN.contains(&file_name)
        || file_name.ends_with(".down.sql")
        || sql && (is_undo || postgrator)
}

/// Reads `001_x.sql`, `001_x.up.sql`, `V001__x.sql`, `2020_01_01_000001_x.sql` and `001.do.x.sql`.
pub(in crate::migrate) fn parse(file_name: &str) -> Result<MigrationId, String> {
    let Some(stem) = file_name.strip_suffix(".sql") else {
        let lower = file_name.to_ascii_lowercase();
        return Err(if lower.ends_with(".sql") {
            "must end in .sql, in lower case".into()
        } else if lower.ends_with(".sql.conf") {
            "looks like a script configuration of Flyway, which cgk does not read: if it says \
             executeInTransaction=false, write `-- cgk:no-transaction` on the first line of the migration; then \
             remove this file"
                .into()
        } else {
            SHAPE.into()
        });
    };
    if let Some((number, name)) = stem.split_once(".do.") {
        return id(number, name);
    }
    let stem = stem.strip_suffix(".up").unwrap_or(stem);
    if stem.starts_with("R__") {
        return Err(
            "looks like a repeatable migration of Flyway, and cgk runs each file once: give it a number, and write \
             each later version as a new file"
                .into(),
        );
    }
    if let Some((number, _)) = stem.strip_prefix('B').and_then(|rest| rest.split_once("__"))
        && number.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err("looks like a baseline of Flyway: make it the first file of the set, V1__x.sql, and see \
                    `cgk migrate:baseline` for schemas that have it already"
            .into());
    }
    if let Some(rest) = stem.strip_prefix('V') {
        let (number, name) = rest.split_once("__").ok_or(SHAPE)?;
        if number.contains(['_', '.']) && number.bytes().all(|b| b.is_ascii_digit() || b == b'_' || b == b'.') {
            return Err(format!(
                "version {number:?} has several parts, as in Flyway, and a version of cgk is one whole number: \
                 renumber the files of the set in their order"
            ));
        }
        return id(number, name);
    }
    if let Some((number, name)) = dated(stem, '_')? {
        return id(&number, name);
    }
    let (number, name) = stem.split_once('_').ok_or_else(|| separator(stem))?;
    id(number, name)
}

/// Reads the name of a folder that contains one migration: `20240101000000_x`, and diesel's `2024-01-01-000000_x`.
pub(in crate::migrate) fn parse_folder(name: &str) -> Result<MigrationId, String> {
    if let Some((number, name)) = dated(name, '-')? {
        return id(&number, name);
    }
    let (number, name) = name.split_once('_').ok_or_else(|| separator(name))?;
    id(number, name)
}

/// Reads a name as versions of cgk without support for dated names did: `2020_01_01_000001_x.sql` was version 2020,
/// `01_01_000001_x`.
pub(in crate::migrate) fn parse_as_earlier(file_name: &str) -> Option<MigrationId> {
    let stem = file_name.strip_suffix(".sql")?;
    let stem = stem.strip_suffix(".up").unwrap_or(stem);
    dated(stem, '_').ok()??;
    let (number, name) = stem.split_once('_')?;
    id(number, name).ok()
}

/// Returns the id that this version gives a file that an earlier one recorded, if the two differ.
pub(in crate::migrate) fn as_read_now(recorded: &MigrationId) -> MigrationId {
    let stem = format!("{}_{}", recorded.version.get(), recorded.name);
    let read = dated(&stem, '_').ok().flatten().and_then(|(number, name)| id(&number, name).ok());
    read.unwrap_or_else(|| recorded.clone())
}

/// Reads `2020_01_01_000001_name`: the parts of a timestamp become one number.
fn dated(stem: &str, separator: char) -> Result<Option<(String, &str)>, String> {
    let parts: Vec<&str> = stem.splitn(5, [separator, '_']).collect();
    let digits = |index: usize, length: usize| {
        parts.get(index).is_some_and(|part| part.len() == length && part.bytes().all(|b| b.is_ascii_digit()))
    };
    if !(digits(0, 4) && digits(1, 2) && digits(2, 2)) {
        return Ok(None);
    }
    if digits(3, 6) {
        return Ok(Some((parts[..4].concat(), parts.get(4).copied().unwrap_or_default())));
    }
    // A day counts as its first moment, so that days and timestamps have one order. Two files of one day are refused as
    // duplicates.
    let name = stem.splitn(4, [separator, '_']).nth(3).unwrap_or_default();
    Ok(Some((format!("{}000000", parts[..3].concat()), name)))
}

fn separator(stem: &str) -> String {
    let digits = stem.len() - stem.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match stem[digits..].chars().next() {
        Some(c) if digits > 0 => format!("has {c:?} after its number {}; write _ there", &stem[..digits]),
        _ => SHAPE.into(),
    }
}

fn id(number: &str, name: &str) -> Result<MigrationId, String> {
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(separator(number));
    }
    if number.bytes().all(|b| b == b'0') {
        return Err(format!(
            "has version {number}, but versions begin at 1 (drizzle and diesel begin at 0): renumber the files in \
             their order"
        ));
    }
    let version: Version = number.parse().map_err(|_| {
        format!("has version {number}, which is not between 1 and {}; give it another number", i64::MAX)
    })?;
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))) {
        return Err(format!("has {c:?} in its name; a name can contain a-z, A-Z, 0-9, _, -, . and spaces"));
    }
    if name.trim_matches(['.', ' ', '-']).is_empty() {
        return Err(format!("has no name after its number {number}; {NO_NAME}"));
    }
    // `001_x.undo.sql` is a down migration.
    if let Some(word) = name.split('.').skip(1).find(|part| WAYS.contains(part)) {
        return Err(format!(
            "has .{word} in its name, which looks like one direction of another tool's migration; take it out of the name"
        ));
    }
    Ok(MigrationId { version, name: name.into() })
}

const WAYS: &[&str] = &["up", "down", "do", "undo", "rollback", "revert", "deploy", "verify"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_tools_are_read() {
        for (name, version, rest) in [
            ("001_orders.sql", 1, "orders"),
            ("20260131120000_Add_x.sql", 20_260_131_120_000, "Add_x"),
            ("V003__x.sql", 3, "x"),
            ("V20260131120000__Add a view.v2.sql", 20_260_131_120_000, "Add a view.v2"),
            ("4_x.up.sql", 4, "x"),
            ("005_add-users.sql", 5, "add-users"),
            ("2020_01_02_000003_create_users.sql", 20_200_102_000_003, "create_users"),
            ("2020_01_02_create_users.sql", 20_200_102_000_000, "create_users"),
            ("007.do.seed.sql", 7, "seed"),
            ("1_1_x.sql", 1, "1_x"),
            // Not dates: a part has another length, or a letter.
            ("2020_ab_02_x.sql", 2020, "ab_02_x"),
            ("2020_1_02_x.sql", 2020, "1_02_x"),
            ("2020_01_02_00003_x.sql", 20_200_102_000_000, "00003_x"),
            ("2020_01_02_00000x_x.sql", 20_200_102_000_000, "00000x_x"),
        ] {
            let id = parse(name).unwrap();
            assert_eq!((id.version.get(), id.name.as_str()), (version, rest), "{name}");
        }
        for (name, version, rest) in [
            ("2020-01-02-000003_create_x", 20_200_102_000_003, "create_x"),
            ("20240101000000_init", 20_240_101_000_000, "init"),
            ("0001_x-y", 1, "x-y"),
        ] {
            let id = parse_folder(name).unwrap();
            assert_eq!((id.version.get(), id.name.as_str()), (version, rest), "{name}");
        }
    }

    #[test]
    fn dated_names_are_known_by_what_earlier_versions_read() {
        for (name, rest) in [
            ("2020_01_02_000003_x.sql", "01_02_000003_x"),
            ("2020_01_02_x.sql", "01_02_x"),
            ("2020_01_02_x.up.sql", "01_02_x"),
        ] {
            let id = parse_as_earlier(name).unwrap();
            let now = as_read_now(&id);
            assert_eq!((now.version.get() / 1_000_000, now.name.as_str()), (20_200_102, "x"), "{name}");
            assert_eq!(as_read_now(&now), now, "{name}");
            assert_eq!((id.version.get(), id.name.as_str()), (2020, rest), "{name}");
        }
        for name in ["001_x.sql", "20200102000003_x.sql", "V1__x.sql", "2020_1_2_x.sql", "R__x.sql"] {
            assert_eq!(parse_as_earlier(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_name_is_said() {
        for (name, part) in [
            ("002-foo.sql", "'-' after its number 002"),
            ("003_x.SQL", "lower case"),
            ("x.sql", "001_what_it_does.sql"),
            ("001.sql", "001_what_it_does.sql"),
            ("001_.sql", "no name after its number 001"),
            ("0_x.sql", "versions begin at 1"),
            ("0000_first.sql", "drizzle"),
            ("V0__x.sql", "versions begin at 1"),
            ("V1_x.sql", "001_what_it_does.sql"),
            ("v1__x.sql", "001_what_it_does.sql"),
            ("V1_1__x.sql", "\"1_1\" has several parts, as in Flyway"),
            ("V1.1__x.sql", "\"1.1\" has several parts, as in Flyway"),
            ("R__views.sql", "repeatable migration of Flyway"),
            ("B2__x.sql", "baseline of Flyway"),
            ("V1__x.sql.conf", "executeInTransaction"),
            ("|1__x.sql", "001_what_it_does.sql"),
            ("001_ü.sql", "'ü' in its name"),
            ("99999999999999999999_x.sql", "not between 1 and"),
            ("1.2_x.sql", "'.' after its number 1"),
            ("001_x.sql~", "001_what_it_does.sql"),
            ("001_x.down.up.sql", ".down in its name"),
            ("001_x.rollback.sql", ".rollback in its name"),
            ("2020_01_02.sql", "no name after its number 20200102000000"),
            ("2020_01_02_000003.sql", "no name after its number 20200102000003"),
        ] {
            let problem = parse(name).unwrap_err();
            assert!(problem.contains(part), "{name}: {problem}");
        }
        assert!(parse_folder("00000000000000_diesel_initial_setup").unwrap_err().contains("diesel"));
        assert!(parse_folder("docs").is_err());
    }

    #[test]
    fn what_no_tool_runs_is_left_aside() {
        for name in [".x.sql", "001_x.down.sql", "U1__x.sql", "001.undo.x.sql", "migration_lock.toml", "README.md"] {
            assert!(is_left_aside(name), "{name}");
        }
        for name in ["001_x.sql", "Users.sql", "Ux__x.sql", "001_x.undo.sql", "U1__x.txt"] {
            assert!(!is_left_aside(name), "{name}");
        }
    }
}
