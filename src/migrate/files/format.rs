//! Files of other tools that hold more than what is to be run: the way back behind the way there, and directives in comments.
//!
//! Directives are lines. Those that part a file are looked for before the text is read as SQL, as their tools do; all others
//! count where they are comments of the text that is left.

use std::ops::Range;

/// What of a file is to be run.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::migrate) struct UpPart {
    /// The text with all that is not run left blank, byte for byte as long, every line in its place.
    pub(in crate::migrate) text: String,
    /// The tool whose directives part the file.
    pub(in crate::migrate) tool: Option<&'static str>,
}

/// Something wrong in a file, and where it begins.
pub(in crate::migrate) type Fault = (usize, String);

/// What a line of a file says to its tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive<'a> {
    Up(&'static str),
    Down(&'static str),
    /// Behind it is the way back, and no line marks the way there.
    DownOnly(&'static str),
    NoTransaction,
    /// Something that makes no difference here.
    Nothing,
    Refused(&'static str, &'a str),
}

/// Parts a text by the lines that say where the way there and the way back begin.
pub(in crate::migrate) fn up_part(text: &str) -> Result<UpPart, Fault> {
    let mut run: Vec<Range<usize>> = Vec::new();
    // Lines that the server could not read.
    let mut blank: Vec<Range<usize>> = Vec::new();
    let (mut tool, mut begins, mut down): (Option<&'static str>, usize, Option<usize>) = (None, 0, None);
    for line in lines(text) {
        let (found, is_up) = match directive(&text[line.clone()]) {
            Some(Directive::Up(found)) => (found, true),
            Some(Directive::Down(found) | Directive::DownOnly(found)) => (found, false),
            _ => continue,
        };
        if text[line.clone()].trim_start().starts_with('#') {
            blank.push(line.clone());
        }
        let implicit = matches!(directive(&text[line.clone()]), Some(Directive::DownOnly(_)));
        match (tool, is_up, down) {
            (Some(other), ..) if other != found => {
                return Err((line.start, format!("is a directive of {found} in a file with directives of {other}")));
            }
            (None, false, _) if !implicit => {
                return Err((line.start, format!("begins the way back of {found}, and no line begins the way there")));
            }
            (None, false, _) => {
                run.push(begins..line.start);
                down = Some(line.start);
            }
            (None, true, _) => begins = line.end,
            (Some(_), true, _) => {
                return Err((
                    line.start,
                    format!("begins the way there of {found} a second time; make it a file of its own"),
                ));
            }
            (Some(_), false, Some(_)) => {
                return Err((line.start, format!("begins the way back of {found} a second time")));
            }
            (Some(_), false, None) => {
                run.push(begins..line.start);
                down = Some(line.start);
            }
        }
        tool = Some(found);
    }
    if tool.is_some() && down.is_none() {
        run.push(begins..text.len());
    }
    if tool.is_none() {
        return Ok(UpPart { text: text.to_owned(), tool });
    }
    let runs =
        |at: usize| at < begins && down.is_none_or(|down| at < down) || run.iter().any(|part| part.contains(&at));
    let kept = |at: usize| runs(at) && !blank.iter().any(|line| line.contains(&at));
    let bytes = text.bytes().enumerate().map(|(at, byte)| match byte {
        b'\n' | b'\r' => byte,
        _ if kept(at) => byte,
        _ => b' ',
    });
    let text = String::from_utf8(bytes.collect()).expect("whole lines are kept or left out");
    // What stands before the first directive, other tools skip in silence.
    match crate::sql::cut(&text[..begins]) {
        Ok(head) if head.statements.is_empty() => Ok(UpPart { text, tool }),
        Ok(head) => {
            let at = head.statements[0].range.start;
            Err((at, format!("stands before the line that begins the way there of {}", tool.unwrap_or_default())))
        }
        Err(error) => Err((error.at, error.problem)),
    }
}

/// What the comments of a text say to other tools than cgk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::migrate) struct Said {
    /// The file runs without a transaction.
    pub(in crate::migrate) without_transaction: bool,
    /// Directives that cgk does not carry out.
    pub(in crate::migrate) refused: Vec<Fault>,
}

/// Reads the directives in the comments of a text.
pub(in crate::migrate) fn directives(text: &str, comments: &[Range<usize>]) -> Said {
    let mut found = Said::default();
    for line in lines(text) {
        let start = line.start + (text[line.clone()].len() - text[line.clone()].trim_start().len());
        let is_comment = comments.iter().any(|comment| comment.start == start);
        match directive(&text[line]) {
            Some(Directive::NoTransaction) if is_comment => found.without_transaction = true,
            Some(Directive::Up(_)) if is_comment && text[start..].lines().next().is_some_and(says_no_transaction) => {
                found.without_transaction = true;
            }
            Some(Directive::Refused(tool, problem)) if is_comment => {
                let said = text[start..].lines().next().unwrap_or_default().trim();
                let of = if tool.is_empty() { String::new() } else { format!(" of {tool}") };
                found.refused.push((start, format!("{said:?} is a directive{of}: {problem}")));
            }
            _ => {}
        }
    }
    found
}

/// The lines of a text without their ends; a carriage return ends one.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        (start <= text.len()).then(|| {
            let end = text[start..].find(['\n', '\r']).map_or(text.len(), |at| start + at);
            let line = start..end;
            start = end + 1;
            line
        })
    })
}

/// Whether the line that begins the way there says that it runs without a transaction.
fn says_no_transaction(line: &str) -> bool {
    let line = line.trim_end().to_ascii_lowercase();
    line.ends_with("transaction:false") || line.ends_with("notransaction")
}

const UNKNOWN: &str = "cgk does not know what it is to do; take the line out, or write what it does as SQL";

fn directive(line: &str) -> Option<Directive<'_>> {
    let line = line.trim();
    let is_play = line.starts_with('#');
    if !line.starts_with("--") && !is_play {
        return None;
    }
    let said = line.trim_start_matches(['-', '#', ' ', '\t']);
    let lower = said.to_ascii_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    match words.as_slice() {
        ["!ups", ..] => return Some(Directive::Up("Play evolutions")),
        ["!downs", ..] => return Some(Directive::Down("Play evolutions")),
        _ if is_play => return None,
        [head, rest @ ..] if head.starts_with('+') => return of_goose(head, rest),
        [head, rest @ ..] if head.starts_with("migrate:") => return Some(of_dbmate(head, rest)),
        ["up", "migration", ..] => return Some(Directive::Up("node-pg-migrate")),
        ["down", "migration", ..] => return Some(Directive::Down("node-pg-migrate")),
        ["rambler", "up"] => return Some(Directive::Up("rambler")),
        ["rambler", "down"] => return Some(Directive::Down("rambler")),
        ["create", "above", "/", "drop", "below", ..] => return Some(Directive::DownOnly("tern")),
        ["tern:", "disable-tx", ..] | ["no-transaction"] | ["evolve-tx-off"] => return Some(Directive::NoTransaction),
        ["transactional:", "false"] | ["atlas:txmode", "none"] => return Some(Directive::NoTransaction),
        ["atlas:delimiter" | "atlas:checkpoint" | "atlas:import", ..] => {
            return Some(Directive::Refused("Atlas", UNKNOWN));
        }
        ["//@undo", ..] | ["//", "@undo", ..] => return Some(Directive::DownOnly("MyBatis Migrations")),
        ["====", "up", "===="] => return Some(Directive::Up("shmig")),
        ["====", "down", "===="] => return Some(Directive::Down("shmig")),
        ["liquibase", "formatted", ..] => {
            let problem =
                "each changeset is a migration of its own; write each into a file of its own, without directives";
            return Some(Directive::Refused("Liquibase", problem));
        }
        [head, ..] if head.starts_with("evolve-repeat") => return Some(Directive::Refused("Evolve", UNKNOWN)),
        _ => {}
    }
    if let Some(said) = line.strip_prefix("--!") {
        return Some(of_graphile(said.trim()));
    }
    looks_like_a_way_back(&lower).then_some(Directive::Refused(
        "",
        "it looks like the beginning of a way back, of no tool that cgk knows; put the way back into a file 001_x.down.sql, \
         or say it in other words",
    ))
}

/// goose, and those that write as it does.
fn of_goose<'a>(head: &str, rest: &[&str]) -> Option<Directive<'a>> {
    let tool = match head {
        "+goose" => "goose",
        "+migrate" => "sql-migrate",
        "+micrate" => "micrate",
        _ => {
            let way = matches!(rest, ["up" | "down", ..]);
            return way.then_some(Directive::Refused("", UNKNOWN));
        }
    };
    Some(match rest {
        ["up"] | ["up", "notransaction"] => Directive::Up(tool),
        ["down"] | ["down", "notransaction"] => Directive::Down(tool),
        // A statement ends where the server ends it.
        ["statementbegin" | "statementend"] | ["envsub", "off"] => Directive::Nothing,
        ["no", "transaction"] => Directive::NoTransaction,
        ["envsub", ..] => Directive::Refused(tool, "cgk puts no variables of the environment into SQL"),
        _ => Directive::Refused(tool, UNKNOWN),
    })
}

fn of_dbmate<'a>(head: &str, rest: &[&str]) -> Directive<'a> {
    match (head, rest) {
        ("migrate:up", [] | ["transaction:false" | "transaction:true"]) => Directive::Up("dbmate"),
        ("migrate:down", _) => Directive::Down("dbmate"),
        _ => Directive::Refused("dbmate", UNKNOWN),
    }
}

fn of_graphile(said: &str) -> Directive<'_> {
    match said.split([' ', ':']).next() {
        Some("no-transaction") => Directive::NoTransaction,
        Some("Previous" | "Hash" | "Message" | "AllowInvalidHash") => Directive::Nothing,
        _ => Directive::Refused("graphile-migrate", UNKNOWN),
    }
}

/// A comment that is nothing but the name of a direction: `-- down`, `-- @rollback`, `-- x:down`.
fn looks_like_a_way_back(said: &str) -> bool {
    let is_frame = |c: char| !c.is_ascii_alphanumeric();
    let bare = said.trim_matches(is_frame);
    let words: Vec<&str> = bare.split(|c: char| is_frame(c) && c != '_').filter(|word| !word.is_empty()).collect();
    let is_way = |word: &str| matches!(word, "down" | "downs" | "undo" | "rollback" | "revert");
    match words.as_slice() {
        [way] => is_way(way),
        ["migrate" | "migration", way] | [way, "migration" | "migrate"] => is_way(way),
        // `x:down`, `@x down`: a word of its own before it, and a sign that no sentence has.
        [_, way] => is_way(way) && (bare.contains(':') || said.starts_with(['@', '!', '+', '%'])),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
