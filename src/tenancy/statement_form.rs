//! Detects statements that must not be sent inside a transaction, by their first words.
//!
//! A message of the extended protocol contains exactly one statement. None of the forms refused here can be nested in
//! another one: EXPLAIN, PREPARE and EXECUTE accept only queries. Two things cannot be detected here: SQL that the
//! server runs on its own, in a DO block or a function, and the function `set_config` in an expression. The check
//! before the COMMIT finds their effects if the effects still exist then. `docs/security.md` describes what that means
//! in each mode.

use crate::error::{Error, Instead, TransactionError};

/// The effect of a statement on the surrounding transaction and session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementForm {
    /// No effect.
    Inside,
    /// The statement must not be sent.
    Refused(RefusedForm),
}

/// A statement form that is refused before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefusedForm {
    /// Its first words, in lower case.
    pub(crate) form: &'static str,
    /// What to do instead.
    pub(crate) instead: Instead,
}

impl RefusedForm {
    pub(crate) fn error(self) -> Error {
        Error::Transaction(TransactionError::StatementRefused { form: self.form, instead: self.instead })
    }
}

/// The settings that the closure must not change. Each has its name, the refused SET and RESET forms, and what to do
/// instead.
const SETTINGS: [(&str, &str, &str, Instead); 5] = [
    ("role", "set role", "reset role", Instead::CallForRole),
    ("session_authorization", "set session authorization", "reset session authorization", Instead::CallForRole),
    ("search_path", "set search_path", "reset search_path", Instead::CallForSearchPath),
    (
        "app.current_organization_id",
        "set app.current_organization_id",
        "reset app.current_organization_id",
        Instead::CallForOrganization,
    ),
    ("cgk.tx", "set cgk.tx", "reset cgk.tx", Instead::ReturnFromClosure),
];

/// Classifies a statement by its first words.
pub(crate) fn statement_form(sql: &str) -> StatementForm {
    // The start of the text distinguishes the entering statement from other statements in the session.
    if sql.starts_with(super::protocol::ENTER_MARK) {
        return refused("/* cgk: enter */", Instead::NoEnterMark);
    }
    let mut words = Words { rest: sql };
    match words.next().as_str() {
        "commit" => refused("commit", Instead::ReturnFromClosure),
        "end" => refused("end", Instead::ReturnFromClosure),
        "abort" => refused("abort", Instead::ReturnFromClosure),
        "rollback" => {
            let mut next = words.next();
            if ["work", "transaction"].contains(&next.as_str()) {
                next = words.next();
            }
            // A rollback to a savepoint. The transaction continues.
            if next == "to" { savepoint(&mut words) } else { refused("rollback", Instead::ReturnFromClosure) }
        }
        "savepoint" | "release" => savepoint(&mut words),
        "prepare" if words.next() == "transaction" => refused("prepare transaction", Instead::ReturnFromClosure),
        "discard" => refused("discard", Instead::ResetByName),
        "alter" => match words.next().as_str() {
            "role" => refused("alter role", Instead::ChangeLoginAsOperator),
            "default" => refused("alter default privileges", Instead::GrantOnObjects),
            "user" if words.next() != "mapping" || words.next() != "for" => {
                refused("alter user", Instead::ChangeLoginAsOperator)
            }
            _ => StatementForm::Inside,
        },
        "drop" if words.next() == "owned" => refused("drop owned", Instead::DropOneByOne),
        "set" => set(&mut words),
        "reset" => reset(&mut words),
        _ => StatementForm::Inside,
    }
}

/// Checks SAVEPOINT, RELEASE and ROLLBACK TO. The names of [`crate::TenantTx::savepoint`] are reserved, because another
/// savepoint of the same name would hide it.
fn savepoint(words: &mut Words<'_>) -> StatementForm {
    let mut name = words.setting();
    if name == "savepoint" {
        name = words.setting();
    }
    match name.as_str() {
        UNICODE_ESCAPES => refused("savepoint U&\"…\"", Instead::PlainName),
        name if name.starts_with("cgk_") => refused("savepoint cgk_…", Instead::OtherSavepointName),
        _ => StatementForm::Inside,
    }
}

/// Returns whether a statement is a COPY. Only the COPY methods can read its response.
pub(crate) fn is_copy(sql: &str) -> bool {
    Words { rest: sql }.next() == "copy"
}

/// The error form of a COPY that is sent as a single statement.
pub(crate) const COPY: RefusedForm = RefusedForm { form: "copy", instead: Instead::CopyMethods };

fn refused(form: &'static str, instead: Instead) -> StatementForm {
    StatementForm::Refused(RefusedForm { form, instead })
}

fn set(words: &mut Words<'_>) -> StatementForm {
    let mut name = words.setting();
    // SET LOCAL and SET SESSION only define how long a setting lasts. SET SESSION AUTHORIZATION is another statement.
    if ["local", "session"].contains(&name.as_str()) {
        let scope = name;
        name = words.setting();
        if scope == "session" && name == "authorization" {
            return refused("set session authorization", Instead::CallForRole);
        }
        if name == "session" && words.setting() == "authorization" {
            return refused("set session authorization", Instead::CallForRole);
        }
    }
    match name.as_str() {
        "schema" => refused("set schema", Instead::CallForSearchPath),
        UNICODE_ESCAPES => refused("set U&\"…\"", Instead::PlainName),
        name => match SETTINGS.iter().find(|(setting, ..)| *setting == name) {
            Some((_, form, _, instead)) => refused(form, *instead),
            None => StatementForm::Inside,
        },
    }
}

fn reset(words: &mut Words<'_>) -> StatementForm {
    match words.setting().as_str() {
        "all" => refused("reset all", Instead::ResetByName),
        "session" if words.setting() == "authorization" => refused("reset session authorization", Instead::CallForRole),
        UNICODE_ESCAPES => refused("reset U&\"…\"", Instead::PlainName),
        name => match SETTINGS.iter().find(|(setting, ..)| *setting == name) {
            Some((_, _, form, instead)) => refused(form, *instead),
            None => StatementForm::Inside,
        },
    }
}

/// The marker for a name in `U&"…"`, which may be any name.
const UNICODE_ESCAPES: &str = "u&";

/// Reads a statement word by word.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    /// Returns the next word in lower case. It is empty if the next token is not a word.
    fn next(&mut self) -> String {
        self.rest = skip_blank(self.rest);
        let end = self.rest.find(|c: char| !is_of_a_word(c)).unwrap_or(self.rest.len());
        let (word, after) = self.rest.split_at(end);
        self.rest = after;
        word.to_ascii_lowercase()
    }

    /// Returns the next name of a setting, in lower case. The server compares these names case-insensitively, even if
    /// they are quoted.
    fn setting(&mut self) -> String {
        let mut name = self.part();
        while name != UNICODE_ESCAPES
            && let Some(after) = skip_blank(self.rest).strip_prefix('.')
        {
            self.rest = after;
            let part = self.part();
            if part == UNICODE_ESCAPES {
                return part;
            }
            name = format!("{name}.{part}");
        }
        name
    }

    fn part(&mut self) -> String {
        self.rest = skip_blank(self.rest);
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            self.rest = quoted.get(end + 1..).unwrap_or_default();
            return quoted[..end].to_ascii_lowercase();
        }
        let word = self.next();
        if word == "u" && self.rest.starts_with("&\"") {
            return UNICODE_ESCAPES.into();
        }
        word
    }
}

/// Returns whether the server treats the character as part of a word.
fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// Skips white space, comments and empty statements before a statement.
fn skip_blank(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c', ';']);
        if let Some(line) = sql.strip_prefix("--") {
            sql = line.find(['\n', '\r']).map_or("", |end| &line[end..]);
        } else if sql.starts_with("/*") {
            sql = skip_comment(sql);
        } else {
            return sql;
        }
    }
}

/// Skips a comment in `/* */`, which may contain nested comments.
fn skip_comment(sql: &str) -> &str {
    let (bytes, mut depth, mut at) = (sql.as_bytes(), 0, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return &sql[at..];
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(sql: &str) -> &'static str {
        match statement_form(sql) {
            StatementForm::Refused(RefusedForm { form, .. }) => form,
            StatementForm::Inside => "",
        }
    }

    #[test]
    fn refused_forms_are_known_however_they_are_written() {
        for (sql, expected) in [
            ("commit", "commit"),
            ("COMMIT and chain", "commit"),
            (" \t\n;; /* /* nested */ */-- line\nEnd", "end"),
            ("--a\rcommit", "commit"),
            ("abort", "abort"),
            ("rollback", "rollback"),
            ("rollback/**/work", "rollback"),
            ("rollback prepared 'x'", "rollback"),
            ("prepare transaction 'x'", "prepare transaction"),
            ("commit;", "commit"),
            ("set role x", "set role"),
            ("SET\tLOCAL/* */ROLE \"x\"", "set role"),
            ("set session role none", "set role"),
            ("set role to x", "set role"),
            ("set \"role\" = x", "set role"),
            ("set local\"Role\"to x", "set role"),
            ("set local U&\"r\\006Fle\" = x", "set U&\"…\""),
            ("set u&\"!0072ole\" uescape '!' = x", "set U&\"…\""),
            ("set session authorization x", "set session authorization"),
            ("set local session authorization x", "set session authorization"),
            ("set session session authorization default", "set session authorization"),
            ("set session_authorization = x", "set session authorization"),
            ("set search_path = a, b", "set search_path"),
            ("set local Search_Path to a", "set search_path"),
            ("set local schema 'a'", "set schema"),
            ("set app . current_organization_id = ''", "set app.current_organization_id"),
            ("set local \"app\".\"current_organization_id\" = ''", "set app.current_organization_id"),
            ("set \"app.current_organization_id\" = ''", "set app.current_organization_id"),
            ("set app.U&\"x\" = ''", "set U&\"…\""),
            ("set cgk.tx = ''", "set cgk.tx"),
            ("reset role", "reset role"),
            ("reset \"ROLE\"", "reset role"),
            ("reset U&\"role\"", "reset U&\"…\""),
            ("reset all", "reset all"),
            ("reset session authorization", "reset session authorization"),
            ("reset session_authorization", "reset session authorization"),
            ("reset search_path", "reset search_path"),
            ("reset cgk.tx", "reset cgk.tx"),
            ("discard all", "discard"),
            ("DISCARD temp", "discard"),
            ("drop /* */ OWNED by current_user", "drop owned"),
            ("alter role current_user set work_mem = '1MB'", "alter role"),
            ("ALTER/**/ROLE all reset all", "alter role"),
            ("alter user \"x\" password 'x'", "alter user"),
            ("alter default privileges grant all on tables to public", "alter default privileges"),
            (
                "ALTER /**/ Default privileges for role x in schema y revoke all on tables from z",
                "alter default privileges",
            ),
            ("alter user mapping password 'x'", "alter user"),
            ("savepoint cgk_1", "savepoint cgk_…"),
            ("SAVEPOINT \"CGK_1\"", "savepoint cgk_…"),
            ("release savepoint cgk_1", "savepoint cgk_…"),
            ("release cgk_1", "savepoint cgk_…"),
            ("rollback to cgk_2", "savepoint cgk_…"),
            ("rollback work to savepoint cgk_2", "savepoint cgk_…"),
            ("savepoint U&\"cgk_1\"", "savepoint U&\"…\""),
        ] {
            assert_eq!(form(sql), expected, "{sql}");
        }
    }

    #[test]
    fn other_statements_are_sent() {
        for sql in [
            "",
            "--",
            "/* open",
            "-- commit",
            "/* é */ select 1",
            "select 'commit'",
            "rollback to savepoint a",
            "ROLLBACK WORK TO a",
            "commit_log",
            "commité",
            "release a",
            "begin",
            "endpoint",
            "set",
            "set local",
            "set \"",
            "set local statement_timeout = 0",
            "set time zone 'UTC'",
            "alter table role add a int",
            "alter user mapping for current_user server s options (user 'x')",
            "alter",
            "set constraints all immediate",
            "set transaction read only",
            "set session characteristics as transaction read only",
            "set app.role = 'admin'",
            "set role.x = 1",
            "set app.current_organization_id.x = 1",
            "set roles = 1",
            "set u = 1",
            "set local session x",
            "set local rolé = 1",
            "reset statement_timeout",
            "reset session x",
            "reset time zone",
            "update t set role = 'x'",
            "prepare x as select 1",
            "deallocate all",
            "drop table owned",
            "drop",
        ] {
            assert_eq!(form(sql), "", "{sql}");
        }
    }
}
