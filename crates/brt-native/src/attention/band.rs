//! Who sees whom.

use std::ops::Range;

use super::tile::ROWS;

/// Number of keys, and which of them each query sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visible {
    pub(super) num_keys: usize,
    /// `None`: all of them.
    pub(super) band: Option<Band>,
}

/// Key j lies `i + offset − j` tokens behind query i, which sees those from 1 to `window_len` tokens behind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band {
    pub(super) window_len: usize,
    pub(super) offset: usize,
}

impl Visible {
    /// Returns the keys that query `i` sees.
    pub(super) fn keys(&self, i: usize) -> Range<usize> {
        match self.band {
            None => 0..self.num_keys,
            Some(band) => {
                let end = (i + band.offset).min(self.num_keys);
                (i + band.offset).saturating_sub(band.window_len).min(end)..end
            }
        }
    }

    /// Returns the keys that any of [`ROWS`] queries from `first` on sees.
    pub(super) fn keys_of_rows(&self, first: usize) -> Range<usize> {
        self.keys(first).start..self.keys(first + ROWS - 1).end
    }

    /// Returns the queries among `rows` that see any of [`ROWS`] keys from `first` on.
    pub(super) fn queries(&self, first: usize, rows: Range<usize>) -> Range<usize> {
        let Some(band) = self.band else { return rows };
        let start = (first + 1).saturating_sub(band.offset).max(rows.start);
        let end = (first + ROWS + band.window_len).saturating_sub(band.offset).min(rows.end);
        start..end.max(start)
    }

    /// Returns how far before its first key the part of the bias begins that query `i` takes: the bias has a value for
    /// each distance, the largest first.
    pub(super) fn bias_start(&self, i: usize) -> usize {
        self.band.map_or(0, |band| band.window_len.saturating_sub(i + band.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All ranges against the definition, for all small bands.
    #[test]
    fn ranges_are_those_of_the_definition() {
        for num_keys in 1..12 {
            for (window_len, offset) in (1..8).flat_map(|w| (0..8).map(move |o| (w, o))) {
                let visible = Visible { num_keys, band: Some(Band { window_len, offset }) };
                let sees = |i: usize, j: usize| {
                    let distance = i as i64 + offset as i64 - j as i64;
                    1 <= distance && distance <= window_len as i64
                };
                for i in 0..9 {
                    let seen: Vec<usize> = (0..num_keys).filter(|&j| sees(i, j)).collect();
                    assert_eq!(visible.keys(i).collect::<Vec<_>>(), seen);
                    if let Some(&first) = seen.first() {
                        let distance = i + offset - first;
                        assert_eq!(visible.bias_start(i), window_len - distance);
                    }
                    let of_rows = visible.keys_of_rows(i);
                    let all = (i..i + ROWS).flat_map(|i| visible.keys(i)).all(|j| of_rows.contains(&j));
                    assert!(all);
                }
                for first in 0..num_keys {
                    let expected: Vec<usize> =
                        (2..9).filter(|&i| (first..first + ROWS).any(|j| sees(i, j))).collect();
                    assert_eq!(visible.queries(first, 2..9).collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
