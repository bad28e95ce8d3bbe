//! Losses on held-out documents: per document, and by position in the document.

use serde::{Deserialize, Serialize};

/// Bits in one nat, `1 / ln 2`.
const BITS_PER_NAT: f64 = std::f64::consts::LOG2_E;

/// What a model remembers at the start of each segment of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateRule {
    /// Caches and recurrent states are carried from segment to segment; reset where a document starts.
    Carried,
    /// Recurrent states start anew in every segment; key/value caches are carried as usual.
    Reset,
    /// Recurrent states start anew in every block: tokens read nothing but the initial state.
    ResetBlocks,
}

/// The loss on one held-out document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocumentScore {
    /// The document's name in its corpus.
    pub name: String,
    /// Author, family of crates, …: documents of one group are not independent of one another.
    pub group: String,
    /// Sum of the losses of all scored tokens, in nats.
    pub loss_nats: f64,
    /// Number of scored tokens.
    pub num_tokens: u64,
    /// Number of bytes of text that the scored tokens stand for.
    pub num_bytes: u64,
    /// Number of words that begin in those bytes: runs of characters that are not white space.
    #[serde(default)]
    pub num_words: u64,
}

impl DocumentScore {
    /// Returns the document's bits per byte.
    pub fn bits_per_byte(&self) -> f64 {
        self.loss_nats * BITS_PER_NAT / self.num_bytes as f64
    }
}

/// The loss on the tokens whose position in their document lies in `start_token..end_token`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PositionBucket {
    /// First position of the bucket.
    pub start_token: u64,
    /// First position after the bucket.
    pub end_token: u64,
    /// Sum of the losses of the bucket's tokens over all documents, in nats.
    pub loss_nats: f64,
    /// Number of scored tokens in the bucket.
    pub num_tokens: u64,
}

impl PositionBucket {
    /// Returns the mean loss of the bucket in bits per token.
    pub fn bits_per_token(&self) -> f64 {
        self.loss_nats * BITS_PER_NAT / self.num_tokens as f64
    }
}

/// Losses of one model on the documents of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Split that was scored: `validation` or `test`.
    pub split: String,
    /// What the model remembered from segment to segment.
    pub state_rule: StateRule,
    /// At most this many tokens of each document were scored; 0 stands for whole documents.
    pub max_document_len: u64,
    /// Only the first so many batches were scored; 0 stands for all.
    #[serde(default)]
    pub num_batches: u64,
    /// One entry per document, in the order of the split.
    pub documents: Vec<DocumentScore>,
    /// Loss by position in the document; buckets double in length.
    pub by_position: Vec<PositionBucket>,
}

impl Evaluation {
    /// Returns the mean over documents of their bits per byte; documents of which nothing was scored do not count.
    pub fn mean_bits_per_byte(&self) -> f64 {
        let scored = || self.documents.iter().filter(|document| document.num_bytes > 0);
        scored().map(DocumentScore::bits_per_byte).sum::<f64>() / scored().count() as f64
    }

    /// Returns the bits per byte of all documents taken as one text.
    pub fn total_bits_per_byte(&self) -> f64 {
        let nats: f64 = self.documents.iter().map(|d| d.loss_nats).sum();
        let bytes: u64 = self.documents.iter().map(|d| d.num_bytes).sum();
        nats * BITS_PER_NAT / bytes as f64
    }

    /// Returns the word perplexity of all documents taken as one text, and the number of words it is normalised by:
    /// e to the power of nats per word. `None` where no word was counted.
    ///
    /// The numbers of papers on PG-19 take the words of the data set's own count; this is a count of runs of characters
    /// that are not white space, in the scored part of the documents.
    pub fn word_perplexity(&self) -> Option<(f64, u64)> {
        let nats: f64 = self.documents.iter().map(|d| d.loss_nats).sum();
        let words: u64 = self.documents.iter().map(|d| d.num_words).sum();
        (words > 0).then(|| ((nats / words as f64).exp(), words))
    }

    /// Returns the mean loss of a token in nats, over all documents.
    pub fn nats_per_token(&self) -> f64 {
        let nats: f64 = self.documents.iter().map(|d| d.loss_nats).sum();
        nats / self.num_tokens() as f64
    }

    /// Returns the mean loss of a token in bits, over all documents.
    pub fn bits_per_token(&self) -> f64 {
        self.nats_per_token() * BITS_PER_NAT
    }

    /// Returns the number of scored tokens of all documents.
    pub fn num_tokens(&self) -> u64 {
        self.documents.iter().map(|d| d.num_tokens).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(loss_nats: f64, num_bytes: u64) -> DocumentScore {
        let (name, group, num_words) = ("d".into(), "g".into(), num_bytes / 5);
        DocumentScore { name, group, loss_nats, num_tokens: num_bytes, num_bytes, num_words }
    }

    #[test]
    fn mean_is_over_documents_and_total_over_bytes() {
        let ln2 = std::f64::consts::LN_2;
        let evaluation = Evaluation {
            split: "test".into(),
            state_rule: StateRule::Carried,
            max_document_len: 0,
            num_batches: 0,
            documents: vec![document(10. * ln2, 10), document(90. * ln2, 30), document(0., 0)],
            by_position: vec![],
        };
        // 1 and 3 bits per byte: mean 2; 100 bits over 40 bytes: 2.5.
        assert!((evaluation.mean_bits_per_byte() - 2.).abs() < 1e-12);
        assert!((evaluation.total_bits_per_byte() - 2.5).abs() < 1e-12);
        assert_eq!(evaluation.num_tokens(), 40);
        assert!((evaluation.bits_per_token() - 2.5).abs() < 1e-12);
        // 100 bits over 8 words.
        let (perplexity, num_words) = evaluation.word_perplexity().unwrap();
        assert!((perplexity - 12.5f64.exp2()).abs() < 1e-9 && num_words == 8);
    }
}
