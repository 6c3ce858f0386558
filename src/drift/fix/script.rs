//! Writes the statements as a script, which a person reviews and then runs with psql.

use super::{HoldReason, Phase};
use crate::drift::{Difference, DriftReport, SchemaDrift};
use std::{collections::HashSet, fmt::Write as _};

impl SchemaDrift {
    /// Returns the statements that would change the schema back to the state of its migrations, as a script of one
    /// transaction, in an executable order. Statements that delete rows, or objects that may be needed, are commented
    /// out, and all of them while a migration is partially applied ([`SchemaDrift::started`]). A difference without a
    /// known statement is a comment. The text is empty if nothing differs.
    ///
    /// The script is for review. This crate does not run it.
    pub fn fix_script(&self) -> String {
        if self.differences.is_empty() {
            return String::new();
        }
        let whose = self.slug.as_ref().map_or_else(|| "the shared schema".into(), |slug| format!("tenant {slug}"));
        let path = self.schema.quoted();
        let settings = format!("set local search_path = {path};\nset local check_function_bodies = off;\n");
        let script = script(&whose, &settings, &self.differences);
        match &self.started {
            None => script,
            // A statement would undo what the file has done, and the run that continues the file does not repeat it.
            Some(started) => {
                let first =
                    format!("-- {}: nothing can be fixed before migration {} is finished\n", line(&whose), started.id);
                let commented = script
                    .lines()
                    .map(|line| if line.starts_with("--") { format!("{line}\n") } else { format!("-- {line}\n") });
                first + &commented.collect::<String>()
            }
        }
    }
}

impl DriftReport {
    /// Returns the [scripts](SchemaDrift::fix_script) of all schemas, and one for rights and for objects that belong to
    /// no tenant.
    pub fn fix_script(&self) -> String {
        let mut scripts: Vec<String> = self.schemas().map(SchemaDrift::fix_script).collect();
        for (what, differences) in [("rights of logins and of everyone", &self.rights), ("of no tenant", &self.strays)]
        {
            if !differences.is_empty() {
                scripts.push(script(what, "", differences));
            }
        }
        scripts.retain(|script| !script.is_empty());
        scripts.join("\n")
    }
}

fn script(whose: &str, settings: &str, differences: &[Difference]) -> String {
    let number = differences.len();
    let mut sql = format!("-- {}: {number} difference{}\n", line(whose), if number == 1 { "" } else { "s" });
    let mut steps: Vec<(Phase, &Difference, usize)> = Vec::new();
    for difference in differences {
        if difference.fix.is_empty() {
            let repair = matches!(difference.kind.as_str(), "ledger" | "migration");
            let repair = if repair { " (see cgk migrate:repair)" } else { "" };
            let _ = writeln!(sql, "-- no statement is known: {}{repair}", line(&difference.to_string()));
        }
        steps.extend(difference.fix.iter().enumerate().map(|(place, fix)| (fix.phase, difference, place)));
    }
    if steps.is_empty() {
        return sql;
    }
    let _ = write!(sql, "begin;\n{settings}");
    // The sort is stable: the statements of a phase keep their order.
    steps.sort_by_key(|(phase, difference, place)| (difference.fix[*place].place, *phase));
    let (mut said, mut last): (HashSet<&str>, Option<&Difference>) = (HashSet::new(), None);
    for (_, difference, place) in steps {
        let fix = &difference.fix[place];
        if !said.insert(&fix.sql) {
            continue;
        }
        if last != Some(difference) {
            let _ = writeln!(sql, "-- {}", line(&difference.to_string()));
            last = Some(difference);
        }
        if let Some(note) = &fix.note {
            let _ = writeln!(sql, "-- note: {}", line(note));
        }
        // A terminal would interpret control characters.
        if fix.sql.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            sql.push_str("-- a statement with control characters is left out; --json has it.\n");
        } else if fix.loses_data || fix.hold != HoldReason::No {
            sql.push_str(match (fix.loses_data, fix.hold) {
                (true, _) => "-- LOSES DATA: read it, and take the dashes away only if that is meant.\n",
                (_, HoldReason::OnlyWithLoss) => {
                    "-- ONLY TOGETHER with the statement of this difference that loses data.\n"
                }
                _ => "-- IT FAILS as long as what the note describes is so: take the dashes away after that.\n",
            });
            for text in fix.sql.split(['\n', '\r']) {
                let _ = writeln!(sql, "--   {text}");
            }
            sql.truncate(sql.trim_end().len());
            sql.push_str(";\n");
        } else {
            let _ = writeln!(sql, "{};", fix.sql);
        }
    }
    sql.push_str("commit;\n");
    sql
}

/// Returns a text in a form that is safe in a one-line comment.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::lose, *};
    use crate::drift::Change;

    #[test]
    fn nothing_leaves_its_comment() {
        let mut bad = Difference::new("table", "x\ndrop table y;\r--", Change::Unexpected);
        let drop = lose(Phase::DropObjects, "drop table \"x\ndrop table y;\r--\"");
        bad.fix = vec![drop.noting("a\nb")];
        let none = Difference::new("operator", "a\nb", Change::Missing);
        let sql = script("tenant x", "set local search_path = 'x';\n", &[bad, none]);
        let code: Vec<&str> = sql.split(['\n', '\r']).filter(|line| !line.starts_with("--")).collect();
        assert_eq!(code, ["begin;", "set local search_path = 'x';", "commit;", ""], "{sql}");
    }
}
