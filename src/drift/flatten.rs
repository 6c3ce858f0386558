//! The server's text of an expression, as it is after a dump of it was restored: pure.
//!
//! `x between 1 and 5 and y > 0` is an AND of an AND, which PostgreSQL writes as `(((x >= 1) AND (x <= 5)) AND (y > 0))`. Where it
//! reads that text, as it does when a dump is restored, it makes one AND of three of it.

/// A text without the parentheses that the server would leave out when it read the text and wrote it again: those around an AND
/// that is the first operand of an AND, and likewise of OR. Nothing is left out that changes what the text means.
pub(super) fn flattened(text: &str) -> String {
    let mut text: Vec<char> = text.chars().collect();
    while let Some((open, close)) = nested(&text) {
        text.remove(close);
        text.remove(open);
    }
    text.into_iter().collect()
}

/// The first such pair of parentheses.
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

/// Which characters are in no string and no quoted name.
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
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place);
        }
    }
    None
}

/// Whether a text is operands between one and the same word, each of them in parentheses or without a blank. A query or a CASE
/// has blanks, and is none.
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
            ("((f(x) AND g) AND (c = ')('::text))", "(f(x) AND g AND (c = ')('::text))"),
        ] {
            assert_eq!(flattened(text), flat);
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
