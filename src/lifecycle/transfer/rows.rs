//! Processes the text of COPY while it is sent: counts rows, computes a checksum that does not depend on their order,
//! and replaces the organization.

use sha2::{Digest as _, Sha256};

/// The number of rows, and the sum of their SHA-256 values, each truncated to 128 bits. The same rows in another order
/// have the same sum.
#[derive(Clone, Debug, Default)]
pub(super) struct RowSum {
    row: Sha256,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    sum: u128,
}

impl RowSum {
    /// Adds the next piece of the text. It can end inside of a row.
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.row.update(part);
            // COPY writes a line end inside of a value as a backslash and a letter.
            if part.last() == Some(&b'\n') {
                let digest = self.row.finalize_reset();
                let mut number = [0; 16];
                number.copy_from_slice(&digest[..16]);
                self.sum = self.sum.wrapping_add(u128::from_le_bytes(number));
                self.rows += 1;
            }
        }
    }

    pub(super) fn checksum(&self) -> String {
        format!("{:032x}", self.sum)
    }
}

/// Replaces a value in some columns, if it is the complete value of the column.
pub(super) struct ValueMap {
    from: Vec<u8>,
    to: Vec<u8>,
    /// Whether a column is mapped, by its position in the row.
    is_mapped: Vec<bool>,
    column: usize,
    /// The part of a mapped value that was read already, while it can still be equal.
    held: Vec<u8>,
    differs: bool,
}

impl ValueMap {
    pub(super) fn new(from: &str, to: &str, is_mapped: Vec<bool>) -> Self {
        let (from, to) = (from.as_bytes().to_vec(), to.as_bytes().to_vec());
        Self { from, to, is_mapped, column: 0, held: Vec::new(), differs: false }
    }

    /// Maps the next piece of the text. It can end inside of a value.
    pub(super) fn map(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut mapped = Vec::with_capacity(piece.len() + self.held.len());
        for byte in piece {
            let is_end = matches!(byte, b'\t' | b'\n');
            if !is_end && !self.differs && self.is_mapped.get(self.column) == Some(&true) {
                self.held.push(*byte);
                if !self.from.starts_with(&self.held) {
                    self.differs = true;
                    mapped.append(&mut self.held);
                }
                continue;
            }
            if is_end {
                if self.held == self.from {
                    mapped.extend_from_slice(&self.to);
                    self.held.clear();
                }
                mapped.append(&mut self.held);
                self.differs = false;
                self.column = if *byte == b'\n' { 0 } else { self.column + 1 };
            }
            mapped.push(*byte);
        }
        mapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_depends_on_the_rows_and_not_on_their_order_or_pieces() {
        let sum = |pieces: &[&str]| {
            let mut sum = RowSum::default();
            pieces.iter().for_each(|piece| sum.add(piece.as_bytes()));
            (sum.rows, sum.bytes, sum.checksum())
        };
        let whole = sum(&["1\ta\n2\tb\n\n"]);
        assert_eq!(whole, sum(&["2\t", "", "b\n1\ta", "\n", "\n"]));
        assert_eq!(whole.0, 3);
        for other in ["1\ta\n2\tb\n2\tb\n", "1\tb\n2\ta\n\n", "1\ta\n\n\n"] {
            assert_ne!(whole.2, sum(&[other]).2, "{other}");
        }
    }

    #[test]
    fn only_the_whole_value_in_the_right_column_is_replaced() {
        let text = "id\tid\nidx\tid\n\\N\tidx\ni\t\n\tid\nx\tid\n";
        let wanted = "id\tNEW\nidx\tNEW\n\\N\tidx\ni\t\n\tNEW\nx\tNEW\n";
        for size in 1..=text.len() {
            let mut map = ValueMap::new("id", "NEW", vec![false, true]);
            let mapped: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| map.map(piece)).collect();
            assert_eq!(String::from_utf8(mapped).unwrap(), wanted, "{size}");
        }
    }
}
