//! The line of a file that contains an error.

use super::{
    super::style::{BAD, FAINT, paint},
    PlaceView,
};

/// Returns the failing line with a mark under the column. Both lines contain the same tabs, so that the mark is at the
/// right column with every tab width.
pub(super) fn excerpt(place: &PlaceView) -> String {
    const BEFORE_MAX: usize = 70;
    const WIDTH_MAX: usize = 110;
    let characters: Vec<char> = place.text.chars().collect();
    let at = (place.column - 1).min(characters.len());
    let from = if characters.len() > WIDTH_MAX { at.saturating_sub(BEFORE_MAX) } else { 0 };
    let until = characters.len().min(from + WIDTH_MAX);
    let (open, close) = (if from > 0 { "…" } else { "" }, if until < characters.len() { "…" } else { "" });
    let line: String =
        characters[from..until].iter().map(|c| if c.is_control() && *c != '\t' { ' ' } else { *c }).collect();
    let lead: String = open
        .chars()
        .map(|_| ' ')
        .chain(characters[from..at].iter().map(|c| if *c == '\t' { '\t' } else { ' ' }))
        .collect();
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len());
    let bar = paint(FAINT, "|");
    format!("\n {gutter} {bar}\n {number} {bar} {open}{line}{close}\n {gutter} {bar} {lead}{}", paint(BAD, "^"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str, column: usize) -> String {
        let place = PlaceView { file: "x.sql".into(), line: 7, column, text: text.into() };
        anstream::adapter::strip_str(&excerpt(&place)).to_string()
    }

    #[test]
    fn the_mark_stands_under_the_character() {
        assert_eq!(mark("sélect ü nope", 10), "\n   |\n 7 | sélect ü nope\n   |          ^");
        assert_eq!(mark("\tx\ty", 4), "\n   |\n 7 | \tx\ty\n   | \t \t^");
        assert_eq!(mark("", 1), "\n   |\n 7 | \n   | ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let text = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let lines = mark(&text, 301);
        let [_, _, line, mark] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
        assert_eq!(line.chars().position(|c| c == 'X'), mark.chars().position(|c| c == '^'));
        assert!(line.chars().count() < 130);
    }
}
