//! A tokenizer of a corpus's own words.

use std::sync::Mutex;

use super::{PrepareConfig, inputs::Inputs, pipeline::SkipLog, watched};
use crate::{
    DataError, Split, Tokenizer,
    corpus::fraction,
    source::{Event, InvalidUtf8},
    train_bpe,
};

/// Shortest chunk of a text that is taken or left out, in bytes.
const CHUNK_BYTES: usize = 1 << 16;

/// What is hashed before a document's name and a chunk's number.
const SALT: &str = "brt-data tokenizer 1: ";

/// Trains a byte-level BPE on the training documents of a corpus, or, where they have more than `max_bytes` of text, on
/// about so much of them, on chunks all over the corpus. `progress` gets the number of bytes read and of all; when all
/// are read, the words are counted and joined.
///
/// # Errors
/// Where the source cannot be read, or the vocabulary is too small.
pub fn train_tokenizer(
    config: &PrepareConfig,
    vocab_size: usize,
    max_bytes: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Tokenizer, DataError> {
    config.validate()?;
    let inputs = Inputs::of(config)?;
    if inputs.is_grouped() || inputs.treats_invalid_utf8(InvalidUtf8::Bytes) {
        let (name, expected) =
            ("group_by, invalid_utf8", "rows as they are, and text, to train a tokenizer on");
        return Err(DataError::Option { name, expected, got: "groups or bytes".into() });
    }
    let part = max_bytes as f64 / inputs.text_bytes().max(1) as f64;
    watched(|| train(&inputs, vocab_size, part), || progress(inputs.bytes_read(), inputs.num_bytes()))
}

/// Trains on a part of the chunks of the training documents.
fn train(inputs: &Inputs, vocab_size: usize, part: f64) -> Result<Tokenizer, DataError> {
    // The trainer takes texts, not errors: the first error ends them and is returned.
    let error = Mutex::new(None);
    let fail = |failure: DataError| {
        *error.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(failure);
    };
    let mut skips = SkipLog::default();
    let mut document = None; // name and number of chunks so far
    let events = (0..inputs.units.len()).flat_map(|unit_idx| inputs.open(unit_idx, 0));
    let texts = events.map_while(|event| event.map_err(fail).ok()).flat_map(|event| match event {
        Event::Begin { name, group, split } => {
            let split = split.unwrap_or_else(|| inputs.split_rule.split(&group));
            document = (split == Split::Train).then_some((name, 0));
            vec![]
        }
        Event::Text { text, .. } => match &mut document {
            Some((name, num_chunks)) => chosen_chunks(text, name, num_chunks, part),
            None => vec![],
        },
        Event::Skip { reason, place } | Event::Abandon { reason, place } => {
            skips.warn(&reason, &place);
            vec![]
        }
        Event::End => vec![],
    });
    let tokenizer = train_bpe(texts, vocab_size)?;
    match error.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(failure) => Err(failure),
        None => Ok(tokenizer),
    }
}

/// Returns a part of the chunks of a text, chosen by hash, and counts all.
fn chosen_chunks(text: Vec<u8>, name: &str, num_chunks: &mut u64, part: f64) -> Vec<String> {
    let mut chunks = chunks(text);
    chunks.retain(|_| {
        *num_chunks += 1;
        fraction(SALT, &format!("{name}, {num_chunks}")) < part
    });
    chunks
}

/// Cuts a text at ends of lines.
fn chunks(text: Vec<u8>) -> Vec<String> {
    let text = String::from_utf8(text).unwrap_or_default();
    let mut chunks = vec![String::new()];
    for line in text.split_inclusive('\n') {
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_BYTES => chunk.push_str(line),
            _ => chunks.push(line.to_owned()),
        }
    }
    chunks
}
