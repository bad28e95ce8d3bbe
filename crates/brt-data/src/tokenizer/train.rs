//! Training of byte-level BPE tokenizers.

use tokenizers::{
    NormalizerWrapper, PostProcessorWrapper, TokenizerImpl,
    models::bpe::{BPE, BpeTrainer},
    pre_tokenizers::byte_level::ByteLevel,
};

use super::{Tokenizer, TokenizerError, error::Fault};

/// Smallest vocabulary: all bytes and one merge.
const MIN_VOCAB_SIZE: usize = 257;

/// How often a pair must occur to be merged.
const MIN_FREQUENCY: u64 = 2;

/// Returns a byte-level BPE tokenizer of at most `vocab_size` tokens, trained on the texts.
///
/// Its words are those of GPT-2, without a space before the text; it has all 256 bytes and no special token. It depends
/// on the texts alone, neither on their order nor on the number of threads. It has fewer tokens than `vocab_size` where
/// no more pairs occur twice.
///
/// # Errors
/// `vocab_size` is under 257.
pub fn train_bpe(
    texts: impl Iterator<Item = String> + Send,
    vocab_size: usize,
) -> Result<Tokenizer, TokenizerError> {
    if vocab_size < MIN_VOCAB_SIZE {
        return Err(TokenizerError::VocabSize { expected: MIN_VOCAB_SIZE, got: vocab_size });
    }
    let alphabet = ByteLevel::alphabet().into_iter().collect();
    let trainer = BpeTrainer::builder().vocab_size(vocab_size).min_frequency(MIN_FREQUENCY);
    let mut trainer = trainer.initial_alphabet(alphabet).show_progress(false).build();
    let byte_level = ByteLevel::new(false, false, true);
    let mut tokenizer: TokenizerImpl<BPE, NormalizerWrapper, ByteLevel, PostProcessorWrapper, ByteLevel> =
        TokenizerImpl::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    let json = tokenizer.train(&mut trainer, texts).and_then(|trained| trained.to_string(true));
    let json = json.map_err(|source| TokenizerError::Train { source })?;
    Tokenizer::from_contents(json.into_bytes()).map_err(|fault| match fault {
        Fault::Damaged { expected, got } | Fault::Unsupported { expected, got } => {
            TokenizerError::Train { source: format!("expected {expected}, got {got}").into() }
        }
    })
}
