//! What is in a prepared split: lengths and excerpts.

use std::path::Path;

use crate::{DataError, Manifest, Split, TokenSet, Tokenizer};

/// Lengths of the documents of a split, and how some of them begin.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitStatistics {
    /// Lengths of all documents in tokens, sorted.
    pub lens: Vec<u64>,
    /// Beginnings of documents, evenly over the split.
    pub excerpts: Vec<Excerpt>,
}

/// How a document begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Name of the document.
    pub name: String,
    /// Number of its tokens.
    pub num_tokens: usize,
    /// Text of its first tokens, decoded from them.
    pub text: String,
}

/// Number of tokens of an excerpt.
const EXCERPT_LEN: usize = 64;

impl SplitStatistics {
    /// Looks at a split of a prepared corpus; `None` where it has no documents.
    ///
    /// # Errors
    /// As [`TokenSet::open`], and where the tokenizer's file cannot be read.
    pub fn of(folder: &Path, split: Split, num_excerpts: usize) -> Result<Option<Self>, DataError> {
        let manifest = Manifest::read(folder)?;
        if manifest.splits.get(&split).is_none_or(|counts| counts.num_documents == 0) {
            return Ok(None);
        }
        let tokenizer = Tokenizer::from_file(&manifest.tokenizer_path(folder))?;
        let set = TokenSet::open(folder, split)?;
        let count = set.num_documents();
        let len = |document_idx| Ok(set.document(document_idx)?.tokens.len() as u64);
        let mut lens = (0..count).map(len).collect::<Result<Vec<u64>, DataError>>()?;
        lens.sort_unstable();
        let num_excerpts = num_excerpts.min(count);
        let excerpt = |i: usize| {
            let document = set.document(i * count / num_excerpts)?;
            let num_tokens = document.tokens.len();
            let head = document.tokens.slice(0..num_tokens.min(EXCERPT_LEN)).to_vec();
            let text = String::from_utf8_lossy(&tokenizer.decode(&head)).into_owned();
            Ok(Excerpt { name: document.name.to_owned(), num_tokens, text })
        };
        let excerpts = (0..num_excerpts).map(excerpt).collect::<Result<_, DataError>>()?;
        Ok(Some(Self { lens, excerpts }))
    }

    /// Returns the length that a part of the documents, in 0 to 1, do not exceed.
    pub fn percentile(&self, part: f64) -> u64 {
        let last = self.lens.len().saturating_sub(1);
        self.lens.get((part * last as f64).round() as usize).copied().unwrap_or(0)
    }

    /// Returns the number of documents of 1, 2 to 3, 4 to 7 … tokens: power after power of 2, up to the longest.
    pub fn histogram(&self) -> Vec<u64> {
        let mut counts = vec![];
        for len in self.lens.iter().filter(|&&len| len > 0) {
            let power = len.ilog2() as usize;
            if counts.len() <= power {
                counts.resize(power + 1, 0);
            }
            counts[power] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_powers() {
        let statistics = SplitStatistics { lens: vec![1, 2, 3, 4, 100], excerpts: vec![] };
        assert_eq!([0., 0.5, 1.].map(|part| statistics.percentile(part)), [1, 3, 100]);
        assert_eq!(statistics.histogram(), [1, 2, 1, 0, 0, 0, 1]);
    }
}
