//! One thread reads ahead, all tokenise, one writes in the order of the inputs.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use rayon::prelude::*;

use super::{
    PrepareProgress,
    inputs::Inputs,
    output::Output,
    state::{Position, ShardState},
    tokenize::{TextPiece, TokenizeConfig},
};
use crate::{
    DataError, Split, Tokenizer, TokenizerError,
    shard::TokenizedPiece,
    source::{Event, OnError},
    tokenizer::TextPlace,
};

/// Number of bytes of text that are tokenised at a time. Two more such batches are read meanwhile.
const BATCH_BYTES: usize = 16 << 20;

/// Length of a text in which no tokenizer-proof cut was found and which is cut at its end all the same.
const MAX_UNCUT_BYTES: usize = 8 << 20;

/// Number of events of a batch, where documents are short.
const BATCH_EVENTS: usize = 1 << 16;

/// What the reader found, with the text apart so that all threads can work on it.
#[derive(Debug)]
enum Step {
    Begin {
        name: String,
        group: String,
        split: Option<Split>,
    },
    /// The next text of the batch.
    Text,
    End,
    Abandon {
        reason: String,
    },
    Skip {
        reason: String,
    },
    NextUnit,
}

#[derive(Debug, Default)]
struct Batch {
    steps: Vec<Step>,
    texts: Vec<TextPiece>,
    num_bytes: usize,
    bytes_read: u64,
}

/// Reads all inputs from where the output is, and writes them.
pub(super) fn run(
    inputs: &Inputs,
    config: &TokenizeConfig,
    output: Output,
    progress: &mut dyn FnMut(&PrepareProgress),
) -> Result<Vec<ShardState>, DataError> {
    let (sender, batches) = sync_channel(1);
    let position = output.position();
    inputs.pass_over(position.unit_idx);
    thread::scope(|scope| {
        let tokenizer = config.tokenizer.clone();
        scope.spawn(move || Reader::new(sender, tokenizer).run(inputs, position));
        // Where writing fails, the batches end with this call, and the reader with its next one.
        write(batches, inputs, config, output, progress)
    })
}

fn write(
    batches: Receiver<Result<Batch, DataError>>,
    inputs: &Inputs,
    config: &TokenizeConfig,
    mut output: Output,
    progress: &mut dyn FnMut(&PrepareProgress),
) -> Result<Vec<ShardState>, DataError> {
    for batch in batches {
        let Batch { steps, texts, bytes_read, .. } = batch?;
        let pieces: Vec<Result<TokenizedPiece, TokenizerError>> =
            texts.into_par_iter().map(|text| config.tokenize(&text)).collect();
        let mut pieces = pieces.into_iter();
        for step in steps {
            match step {
                Step::Begin { name, group, split } => output.begin(name, group, split)?,
                Step::Text => match pieces.next() {
                    Some(Ok(piece)) => output.append(&piece)?,
                    Some(Err(source)) if inputs.on_error() == OnError::Stop => {
                        let document = output.document_name().to_owned();
                        return Err(DataError::Document { document, source: Box::new(source) });
                    }
                    Some(Err(source)) => output.refuse(&source),
                    None => (),
                },
                Step::End => output.end()?,
                Step::Abandon { reason } => output.abandon(reason)?,
                Step::Skip { reason } => output.skip(reason),
                Step::NextUnit => output.next_unit(),
            }
        }
        progress(&PrepareProgress { bytes_read, bytes_total: inputs.num_bytes(), counts: output.counts() });
    }
    output.finish()
}

/// Collects what the inputs hold into batches.
struct Reader {
    sender: SyncSender<Result<Batch, DataError>>,
    tokenizer: Tokenizer,
    batch: Batch,
    /// The text of the document that was not handed over yet.
    waiting: Option<TextPiece>,
    skips: SkipLog,
}

/// Reports where something was left out, as long as it is not too often.
#[derive(Debug, Default)]
pub(super) struct SkipLog(BTreeMap<String, u64>);

impl SkipLog {
    /// Number of reports for each reason.
    const MAX: u64 = 20;

    /// Reports a place.
    pub(super) fn warn(&mut self, reason: &str, place: &str) {
        let count = self.0.entry(reason.to_owned()).or_default();
        *count += 1;
        match *count {
            1..Self::MAX => tracing::warn!("{place}: left out: {reason}"),
            Self::MAX => tracing::warn!("{place}: left out: {reason}; further ones are only counted"),
            _ => (),
        }
    }
}

/// Nobody reads the batches any more.
struct Closed;

impl Reader {
    fn new(sender: SyncSender<Result<Batch, DataError>>, tokenizer: Tokenizer) -> Self {
        Self { sender, tokenizer, batch: Batch::default(), waiting: None, skips: SkipLog::default() }
    }

    fn run(mut self, inputs: &Inputs, from: Position) {
        for unit_idx in from.unit_idx..inputs.units.len() {
            let num_done = if unit_idx == from.unit_idx { from.num_done } else { 0 };
            if self.read_unit(inputs, unit_idx, num_done).is_err() {
                return;
            }
        }
        let _ = self.send();
    }

    fn read_unit(&mut self, inputs: &Inputs, unit_idx: usize, num_done: u64) -> Result<(), Closed> {
        for event in inputs.open(unit_idx, num_done) {
            match event {
                Ok(event) => self.push(event, inputs)?,
                Err(error) => return self.fail(error),
            }
        }
        self.batch.steps.push(Step::NextUnit);
        Ok(())
    }

    fn push(&mut self, event: Event, inputs: &Inputs) -> Result<(), Closed> {
        let step = match event {
            Event::Begin { name, group, split } => Step::Begin { name, group, split },
            Event::Text { text, in_word } => {
                self.wait(text, in_word);
                return self.send_if_full(inputs);
            }
            Event::End => {
                if let Some(piece) = self.waiting.take() {
                    self.push_text(piece);
                }
                Step::End
            }
            Event::Abandon { reason, place } => {
                self.waiting = None;
                self.skips.warn(&reason, &place);
                Step::Abandon { reason }
            }
            Event::Skip { reason, place } => {
                self.skips.warn(&reason, &place);
                Step::Skip { reason }
            }
        };
        self.batch.steps.push(step);
        self.send_if_full(inputs)
    }

    /// Keeps a text until it is known whether the document goes on: what waited goes, up to a place where a cut
    /// changes no token, and the rest of it stays before this one.
    fn wait(&mut self, text: Vec<u8>, in_word: bool) {
        let Some(mut before) = self.waiting.take() else {
            self.waiting = Some(TextPiece { text, place: TextPlace::Start, in_word });
            return;
        };
        let cut = match self.tokenizer.last_cut(&before.text) {
            Some(cut) => cut,
            None if before.text.len() < MAX_UNCUT_BYTES => 0,
            None => before.text.len(),
        };
        let mut next =
            TextPiece { text: before.text.split_off(cut), place: TextPlace::Continuation, in_word };
        if cut == 0 {
            (next.place, next.in_word) = (before.place, before.in_word);
        } else if !next.text.is_empty() {
            next.in_word = false; // It begins with white space.
        }
        next.text.extend_from_slice(&text);
        self.waiting = Some(next);
        if cut > 0 {
            self.push_text(before);
        }
    }

    fn push_text(&mut self, piece: TextPiece) {
        self.batch.num_bytes += piece.text.len();
        self.batch.texts.push(piece);
        self.batch.steps.push(Step::Text);
    }

    fn send_if_full(&mut self, inputs: &Inputs) -> Result<(), Closed> {
        self.batch.bytes_read = inputs.bytes_read();
        match self.batch.num_bytes >= BATCH_BYTES || self.batch.steps.len() >= BATCH_EVENTS {
            true => self.send(),
            false => Ok(()),
        }
    }

    fn send(&mut self) -> Result<(), Closed> {
        self.sender.send(Ok(std::mem::take(&mut self.batch))).map_err(|_| Closed)
    }

    /// Hands over what was read before the error, then the error.
    fn fail(&mut self, error: DataError) -> Result<(), Closed> {
        self.send()?;
        let _ = self.sender.send(Err(error));
        Err(Closed)
    }
}
