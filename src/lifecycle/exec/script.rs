//! The SQL that runs in each tenant.

use crate::{
    error::{ExecError, Result},
    sql,
};

/// The SQL for [`exec`](super::exec()): one statement or several, without parameters and without COPY.
///
/// ```
/// use cgk::lifecycle::ExecScript;
///
/// let script = ExecScript::parse("select count(*) from orders; select max(total) from orders").unwrap();
/// assert_eq!(script.statements().len(), 2);
/// assert!(ExecScript::parse("copy orders to stdout").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecScript {
    statements: Vec<String>,
    /// The line of each statement, from 1.
    lines: Vec<usize>,
}

impl ExecScript {
    /// Splits a text into its statements. A byte-order mark at its start is ignored. The server checks later that each of them is a single statement.
    ///
    /// # Errors
    ///
    /// Kind `Invalid`: the text contains no statement, contains COPY, or cannot be split, for example because a string
    /// does not end.
    pub fn parse(text: &str) -> Result<Self> {
        // The server takes the mark as part of a name. psql ignores it too.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let cut = sql::cut(text).map_err(|unreadable| {
            let line = text[..unreadable.at].matches('\n').count() + 1;
            ExecError::Unreadable { line, problem: unreadable.problem }
        })?;
        if cut.statements.is_empty() {
            return Err(ExecError::Empty.into());
        }
        // The data of a COPY is neither rows nor text, and a COPY FROM STDIN would wait for data that is never sent.
        let is_copy = |statement: &sql::Statement| statement.leading_words().first() == Some(&"copy");
        if let Some(index) = cut.statements.iter().position(is_copy) {
            return Err(ExecError::Copy { statement: index + 1 }.into());
        }
        let line = |at: usize| text[..at].matches('\n').count() + 1;
        let (lines, statements) =
            cut.statements.into_iter().map(|found| (line(found.range.start), text[found.range].to_owned())).unzip();
        Ok(Self { statements, lines })
    }

    /// Returns the line on which a statement begins. Statements and lines are counted from 1.
    pub(in crate::lifecycle) fn line(&self, statement: usize) -> Option<usize> {
        self.lines.get(statement.checked_sub(1)?).copied()
    }

    /// Returns the statements, without semicolons.
    pub fn statements(&self) -> &[String] {
        &self.statements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_run_is_refused_before_a_server_is_asked() {
        let code = |text: &str| ExecScript::parse(text).unwrap_err().code();
        assert_eq!((code(""), code("-- nothing\n;")), ("CGK0864", "CGK0864"));
        assert_eq!((code("select 1;\nselect 'x"), code("select (1")), ("CGK0865", "CGK0865"));
        for text in ["copy t to stdout", "select 1; /* x */ COPY t to stdout", "copy (select 1) to program 'x'"] {
            assert_eq!(code(text), "CGK0866", "{text}");
        }
        assert_eq!(code("copy t from stdin;\n1\n\\.\n"), "CGK0865");
        let error = ExecScript::parse("select 1;\nselect 'x").unwrap_err();
        assert!(error.to_string().starts_with("line 2 of the SQL: "), "{error}");
    }

    #[test]
    fn a_semicolon_in_a_text_is_no_end() {
        let script = ExecScript::parse("\u{feff}select ';' ; do $$ begin null; end $$;").unwrap();
        assert_eq!(script.statements(), ["select ';'", "do $$ begin null; end $$"]);
    }
}
