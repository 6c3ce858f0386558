//! Converts an expression to the text that the server writes after a dump is restored. Runs no queries.
//!
//! `x between 1 and 5 and y > 0` is an AND inside an AND. PostgreSQL writes it as
//! `(((x >= 1) AND (x <= 5)) AND (y > 0))`. When it parses that text, for example to restore a dump, it creates one AND
//! of three operands. Another example is a list of values that are all converted to another type, as in
//! `varchar in ('a', 'b')`. PostgreSQL writes it as one array with a cast, and parses that text as an array of casts.

use std::ops::Range;

/// Returns the text that the server would write after it has parsed this one.
pub(super) fn restored(text: &str) -> String {
    flattened(&cast_in_arrays(text))
}

/// Rewrites `(ARRAY[a, b])::t[]` as `ARRAY[(a)::t, (b)::t]`, and a varchar that is converted to text as text.
fn cast_in_arrays(text: &str) -> String {
    let mut text: Vec<char> = text.chars().collect();
    while let Some((range, with)) = cast_array(&text) {
        text.splice(range, with.chars());
    }
    text.into_iter().collect()
}

/// Returns the first such cast, and its replacement.
fn cast_array(text: &[char]) -> Option<(Range<usize>, String)> {
    let code = outside_of_quotes(text);
    let at = |place: usize, word: &str| word.chars().enumerate().all(|(i, c)| text.get(place + i) == Some(&c));
    let collect = |range: Range<usize>| text[range].iter().collect::<String>();
    (0..text.len()).filter(|place| code[*place]).find_map(|start| {
        if at(start, "ARRAY[") {
            let open = start + "ARRAY".len();
            let close = closing(text, &code, open)?;
            let is_in_parentheses = start > 0 && text[start - 1] == '(' && text.get(close + 1) == Some(&')');
            let around = usize::from(is_in_parentheses);
            let (name, end) = array_type(text, close + 1 + around)?;
            let cast = |range| match is_in_parentheses {
                true => format!("({})::{name}", collect(range)),
                false => format!("{}::{name}", collect(range)),
            };
            let elements: Vec<String> = elements(text, &code, open + 1..close).into_iter().map(cast).collect();
            return Some((start - around..end, format!("ARRAY[{}]", elements.join(", "))));
        }
        varchar(text, &code, start)
    })
}

/// Finds a varchar literal, or an array, that is cast to text, or that follows a text operator. In the latter case the
/// server omits the cast when it creates a CHECK from a partition's bounds.
fn varchar(text: &[char], code: &[bool], start: usize) -> Option<(Range<usize>, String)> {
    const VARCHAR: &str = "::character varying";
    let is = |place: usize, word: &str| word.chars().enumerate().all(|(i, c)| text.get(place + i) == Some(&c));
    let open = start + 1;
    if text.get(open) != Some(&'\'') {
        return None;
    }
    let close = (open..text.len()).find(|place| code[*place])?;
    if !is(close, VARCHAR) {
        return None;
    }
    let mut end = close + VARCHAR.len();
    if is(end, "(") {
        end = closing(text, code, end)? + 1;
    }
    let brackets = if is(end, "[]") { "[]" } else { "" };
    end += brackets.len();
    let literal: String = text[open..close].iter().collect();
    let cast = format!(")::text{brackets}");
    if is(start, "(") && is(end, &cast) {
        return Some((start..end + cast.len(), format!("{literal}::text{brackets}")));
    }
    let before: String = text[..open].iter().collect();
    let before = before.strip_suffix("ANY (").unwrap_or(&before);
    let operand = ["=", ">=", ">", "<=", "<", "<>"].iter().find_map(|op| before.strip_suffix(&format!(" {op} ")))?;
    operand.ends_with(")::text").then(|| (open..end, format!("{literal}::text{brackets}")))
}

/// Returns the type name in a cast to an array, and the end of the cast.
fn array_type(text: &[char], start: usize) -> Option<(String, usize)> {
    let cast: String = text[start.min(text.len())..].iter().collect();
    let name = cast.strip_prefix("::")?.split_once("[]")?.0;
    let is_name = name.chars().all(|c| c.is_alphanumeric() || " _.\"(),".contains(c));
    let is_whole = name.matches('(').count() == name.matches(')').count() && !name.contains(" AND ");
    (is_name && is_whole).then(|| (name.to_owned(), start + 2 + name.chars().count() + 2))
}

/// Returns the positions of the elements between commas.
fn elements(text: &[char], code: &[bool], within: Range<usize>) -> Vec<Range<usize>> {
    let (mut depth, mut start, mut all) = (0, within.start, Vec::new());
    for place in within.clone().filter(|place| code[*place]) {
        match text[place] {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                all.push(start..place);
                start = place + 2;
            }
            _ => {}
        }
    }
    all.push(start..within.end);
    all
}

/// Removes the parentheses that the server would omit after parsing: those around an AND that is the first operand of
/// an AND, and the same for OR. The meaning does not change.
fn flattened(text: &str) -> String {
    let mut text: Vec<char> = text.chars().collect();
    while let Some((open, close)) = nested(&text) {
        text.remove(close);
        text.remove(open);
    }
    text.into_iter().collect()
}

/// Returns the first such pair of parentheses.
fn nested(text: &[char]) -> Option<(usize, usize)> {
    let code = outside_of_quotes(text);
    let is = |place: usize, c: char| code[place] && text[place] == c;
    (1..text.len()).filter(|open| is(open - 1, '(') && is(*open, '(')).find_map(|open| {
        let close = closing(text, &code, open)?;
        let joined = |word: &str| {
            let word: Vec<char> = word.chars().collect();
            text[close + 1..].starts_with(&word) && joins(&text[open + 1..close], &code[open + 1..close], &word)
        };
        (joined(" AND ") || joined(" OR ")).then_some((open, close))
    })
}

/// Returns which characters are outside of strings and quoted names.
fn outside_of_quotes(text: &[char]) -> Vec<bool> {
    let mut quote = None;
    let of_char = |c: &char| match quote {
        Some(open) => {
            if *c == open {
                quote = None;
            }
            false
        }
        None if matches!(c, '\'' | '"') => {
            quote = Some(*c);
            false
        }
        None => true,
    };
    text.iter().map(of_char).collect()
}

fn closing(text: &[char], code: &[bool], open: usize) -> Option<usize> {
    let mut depth = 0;
    for place in (open..text.len()).filter(|place| code[*place]) {
        match text[place] {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place);
        }
    }
    None
}

/// Whether a text consists of operands that the same word joins, each in parentheses or without a space. A query or a
/// CASE contains spaces, and does not match.
fn joins(text: &[char], code: &[bool], word: &[char]) -> bool {
    let (mut depth, mut place, mut words) = (0, 0, 0);
    while place < text.len() {
        match text[place] {
            '(' if code[place] => depth += 1,
            ')' if code[place] => depth -= 1,
            ' ' if code[place] && depth == 0 => {
                if !text[place..].starts_with(word) {
                    return false;
                }
                words += 1;
                place += word.len() - 1;
            }
            _ => {}
        }
        place += 1;
    }
    words > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_and_of_an_and_is_one_and() {
        for (text, flat) in [
            ("CHECK ((((x >= 1) AND (x <= 5)) AND (y > 0)))", "CHECK (((x >= 1) AND (x <= 5) AND (y > 0)))"),
            ("((((a) OR (b)) OR (c)) OR (d))", "((a) OR (b) OR (c) OR (d))"),
            ("((a AND (b = '(')) AND (c = 'x AND y'))", "(a AND (b = '(') AND (c = 'x AND y'))"),
            ("((f(x) AND g) AND (c = ')('::text))", "(f(x) AND g AND (c = ')('::text))"),
        ] {
            assert_eq!(flattened(text), flat);
        }
    }

    #[test]
    fn a_cast_of_an_array_is_an_array_of_casts() {
        for (text, cast) in [
            (
                "((s)::text = ANY ((ARRAY['a'::character varying, (upper('e,'::text))::character varying])::text[]))",
                "((s)::text = ANY (ARRAY['a'::text, ((upper('e,'::text))::character varying)::text]))",
            ),
            (
                "s::text <> ALL (ARRAY['a''b]'::character varying, '(b'::character varying]::text[])",
                "s::text <> ALL (ARRAY['a''b]'::character varying::text, '(b'::character varying::text])",
            ),
            ("((s)::text = ANY (('{a,b}'::character varying(10)[])::text[]))", "((s)::text = ANY ('{a,b}'::text[]))"),
            ("((s)::text = ANY ('{a,b}'::character varying(10)[]))", "((s)::text = ANY ('{a,b}'::text[]))"),
            ("((s)::text >= 'it''s'::character varying(10))", "((s)::text >= 'it''s'::text)"),
            (
                "(ARRAY[f((a), ARRAY[b, c]), (c), d])::text[]",
                "ARRAY[(f((a), ARRAY[b, c]))::text, ((c))::text, (d)::text]",
            ),
            ("(ARRAY[1, 2])::numeric(5,2)[]", "ARRAY[(1)::numeric(5,2), (2)::numeric(5,2)]"),
        ] {
            assert_eq!(restored(text), cast);
            assert_eq!(restored(cast), cast);
        }
        for text in [
            "(f('a'::character varying) = 'x'::character varying(3))",
            "('{a,b}'::integer[])::text[]",
            "(ARRAY[1, 2] || b)::text[]",
            "('(ARRAY[1])::text[]'::text = d)",
            "(ARRAY[a])::text",
        ] {
            assert_eq!(restored(text), text);
        }
    }

    #[test]
    fn what_means_something_else_stays() {
        for text in [
            "((a) AND ((b) AND (c)))",
            "(((a) OR (b)) AND (c))",
            "(((a) AND (b)) OR (c))",
            "((SELECT x FROM t WHERE (a) AND (b)) AND (c))",
            "((CASE WHEN (a) AND (b) THEN c END) AND (d))",
            "('((a AND b) AND c)'::text = d)",
            "(\"((a AND b) AND c)\" = 1)",
            "((NOT a) AND (b))",
            "((a) AND (b",
        ] {
            assert_eq!(flattened(text), text);
        }
    }
}
