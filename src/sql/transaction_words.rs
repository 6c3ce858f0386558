//! Searches a text for the words that can start, end or time its transaction. It searches the complete text, including
//! comments, literals and names. A text without such a word cannot have the word's effect, because the server
//! recognizes these commands only by their letters.

/// Which of these words a text contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransactionWords {
    /// It contains `begin` or `start`.
    pub(crate) begins: bool,
    /// It contains `commit`, `end`, `prepare`, or one of the words of [`rolls_back`](Self::rolls_back). It also matches
    /// `close`, with which a file could close the cursor that prevents it from ending its transaction.
    pub(crate) ends: bool,
    /// It contains `rollback` or `abort`.
    pub(crate) rolls_back: bool,
    /// It contains `timeout`, which is a part of the names of the settings.
    pub(crate) timeouts: bool,
}

impl TransactionWords {
    pub(crate) fn of(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let holds = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let rolls_back = holds(&["rollback", "abort"]);
        Self {
            begins: holds(&["begin", "start"]),
            ends: rolls_back || holds(&["commit", "end", "prepare", "close"]),
            rolls_back,
            timeouts: holds(&["timeout"]),
        }
    }

    /// Returns the words of both texts.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            begins: self.begins || other.begins,
            ends: self.ends || other.ends,
            rolls_back: self.rolls_back || other.rolls_back,
            timeouts: self.timeouts || other.timeouts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_wherever_they_stand() {
        assert_eq!(TransactionWords::of("alter table t add c int"), TransactionWords::default());
        assert!(TransactionWords::of("select 1;Begin").begins);
        assert!(TransactionWords::of("/* START */ transaction").begins);
        for text in ["COMMIT", "eNd", "prepare transaction 'x'", "close all", "abort", "ROLLBACK"] {
            assert!(TransactionWords::of(text).ends, "{text}");
        }
        assert!(TransactionWords::of("RollBack and chain").rolls_back && !TransactionWords::of("commit").rolls_back);
        assert!(TransactionWords::of("set Statement_Timeout = 1").timeouts);
        assert!(TransactionWords::default().and(TransactionWords::of("end")).ends);
    }
}
