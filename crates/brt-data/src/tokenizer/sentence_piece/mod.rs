//! SentencePiece models: the tokens of the reference implementation, without it.
//!
//! # Source
//! google/sentencepiece 0.2: `normalizer.cc`, `bpe_model.cc`, `unigram_model.cc` (the optimised encoder),
//! `sentencepiece_processor.cc`. Its Python package made the golden tokens in `tests/data/tokenizers`.
//!
//! **Differs:** Unigram scores are summed from the start of each line instead of the text, so that a text of any length
//! keeps its precision and may be cut between lines; a text of one line has the tokens of the reference. Bytes that are
//! no UTF-8 are decoded as they are. A denormaliser is not applied.

mod bpe;
mod decode;
mod normalizer;
mod proto;
mod trie;
mod unigram;
mod words;

use std::collections::HashSet;

use prost::Message;

pub(super) use self::decode::Before;
use self::{
    bpe::Bpe,
    normalizer::{Normalized, Normalizer},
    proto::{ModelKind, ModelProto, PieceKind, PieceProto, TrainerSpec},
    trie::Trie,
    unigram::Unigram,
    words::Words,
};
use super::{Encoding, TextPlace, TokenizerError, error::Fault};

/// What an unknown token is decoded to where the model does not say.
const UNKNOWN_SURFACE: &str = " \u{2047} ";

/// Longest piece that is possible.
const MAX_PIECE_LEN: usize = 8000;

/// A SentencePiece model.
#[derive(Debug)]
pub(super) struct SentencePiece {
    normalizer: Normalizer,
    words: Words,
    model: Model,
    vocabulary: Vocabulary,
    unknown_surface: String,
}

/// How a normalised text is divided into pieces.
#[derive(Debug)]
enum Model {
    Bpe(Bpe),
    Unigram(Unigram),
}

/// The pieces, by token.
#[derive(Debug)]
struct Vocabulary {
    pieces: Vec<Piece>,
    unknown: u32,
    /// The tokens of the 256 bytes, if unknown characters are divided into bytes.
    bytes: Option<Vec<u32>>,
}

/// A row of the vocabulary.
#[derive(Debug, Clone)]
struct Piece {
    text: String,
    score: f32,
    kind: PieceKind,
}

impl SentencePiece {
    /// Reads a model file.
    pub(super) fn new(contents: &[u8]) -> Result<Self, Fault> {
        let damaged =
            |got: &dyn ToString| Fault::damaged("a tokenizer.json or a SentencePiece model", got.to_string());
        let proto = ModelProto::decode(contents).map_err(|e| damaged(&e))?;
        if proto.pieces.is_empty() {
            return Err(damaged(&"no pieces"));
        }
        let trainer = proto.trainer_spec.unwrap_or_default();
        let vocabulary = Vocabulary::new(&proto.pieces, &trainer)?;
        let user_defined: Vec<_> = vocabulary.of_kinds(&[PieceKind::UserDefined]).collect();
        let matcher = || (!user_defined.is_empty()).then(|| Trie::new(user_defined.iter().copied()));
        let normalizer = Normalizer::new(
            proto.normalizer_spec.unwrap_or_default(),
            trainer.treat_whitespace_as_suffix(),
            matcher(),
        )?;
        let model = match trainer.model_type.map_or(Ok(ModelKind::Unigram), ModelKind::try_from) {
            Ok(ModelKind::Unigram) => Model::Unigram(Unigram::new(&vocabulary)),
            Ok(ModelKind::Bpe) => Model::Bpe(Bpe::new(&vocabulary, matcher())),
            other => {
                let got = other.map_or_else(|e| e.to_string(), |kind| format!("{kind:?}"));
                return Err(Fault::unsupported("a BPE or Unigram model", got));
            }
        };
        let unknown_surface = trainer.unk_surface.unwrap_or_else(|| UNKNOWN_SURFACE.to_owned());
        let words = Words::new(&vocabulary);
        Ok(Self { normalizer, words, model, vocabulary, unknown_surface })
    }

    /// Returns the number of pieces.
    pub(super) fn vocab_size(&self) -> usize {
        self.vocabulary.pieces.len()
    }

    /// Returns the tokens of a text.
    pub(super) fn encode(&self, text: &str, place: TextPlace) -> Result<Encoding, TokenizerError> {
        let normalized = self.normalizer.normalize(text.as_bytes(), place)?;
        let mut output = Output::new(&self.vocabulary, &normalized);
        match &self.model {
            Model::Bpe(bpe) => bpe.encode(&self.words, &normalized.bytes, &mut output),
            Model::Unigram(unigram) => {
                let is_line_feed =
                    |place: usize| text.as_bytes().get(normalized.sources[place] as usize) == Some(&b'\n');
                for line in self.words.split_at(&normalized.bytes, is_line_feed) {
                    unigram.encode(line, &mut output);
                }
            }
        }
        Ok(output.finish(text.len()))
    }
}

impl Vocabulary {
    /// Reads and checks the pieces.
    fn new(pieces: &[PieceProto], trainer: &TrainerSpec) -> Result<Self, Fault> {
        let damaged = |got: String| Fault::damaged("a SentencePiece model", got);
        let pieces: Vec<Piece> = pieces.iter().map(Piece::new).collect::<Result<_, _>>()?;
        let mut seen = HashSet::new();
        if let Some(piece) = pieces.iter().find(|piece| !seen.insert(&piece.text)) {
            return Err(damaged(format!("the piece `{}` twice", piece.text)));
        }
        let tokens_of = |kind| (0u32..).zip(&pieces).filter(move |(_, piece)| piece.kind == kind);
        let unknown: Vec<u32> = tokens_of(PieceKind::Unknown).map(|(token, _)| token).collect();
        let mut bytes = vec![None; 256];
        for (token, piece) in tokens_of(PieceKind::Byte) {
            let byte = piece.byte().filter(|_| trainer.byte_fallback());
            let byte = byte.ok_or_else(|| damaged(format!("the byte piece `{}`", piece.text)))?;
            bytes[usize::from(byte)] = Some(token);
        }
        let bytes = bytes.into_iter().collect::<Option<Vec<u32>>>();
        if trainer.byte_fallback() && bytes.is_none() {
            return Err(damaged("fewer than 256 byte pieces".to_owned()));
        }
        let unknown = match unknown[..] {
            [unknown] => unknown,
            [] if bytes.is_some() => 0, // never used
            _ => return Err(damaged(format!("{} pieces for what is unknown", unknown.len()))),
        };
        Ok(Self { pieces, unknown, bytes })
    }

    /// Returns the pieces of these kinds and their tokens.
    fn of_kinds<'a>(&'a self, kinds: &'a [PieceKind]) -> impl Iterator<Item = (&'a [u8], u32)> {
        let pieces = (0..).zip(&self.pieces).filter(|(_, piece)| kinds.contains(&piece.kind));
        pieces.map(|(token, piece)| (piece.text.as_bytes(), token))
    }

    /// Returns the pieces that occur in normalised texts.
    fn of_texts(&self) -> impl Iterator<Item = (&[u8], u32)> {
        self.of_kinds(&[PieceKind::Normal, PieceKind::UserDefined, PieceKind::Unused])
    }
}

impl Piece {
    /// Reads and checks a piece.
    fn new(proto: &PieceProto) -> Result<Self, Fault> {
        let damaged = |got: String| Fault::damaged("a SentencePiece model", got);
        let kind = proto.kind.map_or(Ok(PieceKind::Normal), PieceKind::try_from);
        let kind = kind.map_err(|e| damaged(format!("a piece with {e}")))?;
        let (text, score) = (proto.piece().to_owned(), proto.score());
        if text.is_empty() || text.len() >= MAX_PIECE_LEN || !score.is_finite() {
            return Err(damaged(format!("the piece `{text}` with score {score}")));
        }
        Ok(Self { text, score, kind })
    }

    /// Returns the byte that a byte piece, such as `<0x0A>`, stands for.
    fn byte(&self) -> Option<u8> {
        let digits = self.text.strip_prefix("<0x")?.strip_suffix('>')?;
        let is_byte = self.kind == PieceKind::Byte && digits.len() == 2;
        u8::from_str_radix(digits, 16).ok().filter(|_| is_byte)
    }
}

/// Turns pieces of a normalised text into tokens.
#[derive(Debug)]
struct Output<'a> {
    vocabulary: &'a Vocabulary,
    sources: &'a [u32],
    encoding: Encoding,
    /// End of the last piece in the normalised text.
    at: usize,
    after_unknown: bool,
}

impl<'a> Output<'a> {
    /// Returns the output at the start of a text.
    fn new(vocabulary: &'a Vocabulary, normalized: &'a Normalized) -> Self {
        Self {
            vocabulary,
            sources: &normalized.sources,
            encoding: Encoding::default(),
            at: 0,
            after_unknown: false,
        }
    }

    /// Appends the next piece; `None` is one that the vocabulary does not have.
    fn push(&mut self, piece: &[u8], token: Option<u32>) {
        let start = self.sources[self.at];
        self.at += piece.len();
        let end = self.sources[self.at];
        let Encoding { tokens, ends } = &mut self.encoding;
        match (token, &self.vocabulary.bytes, ends.last_mut()) {
            (Some(token), ..) => {
                tokens.push(token);
                ends.push(end);
            }
            (None, Some(bytes), _) => {
                tokens.extend(piece.iter().map(|&byte| bytes[usize::from(byte)]));
                ends.resize(tokens.len() - 1, start);
                ends.push(end);
            }
            // Neighbours that the vocabulary does not have are one token.
            (None, None, Some(last)) if self.after_unknown => *last = end,
            (None, None, _) => {
                tokens.push(self.vocabulary.unknown);
                ends.push(end);
            }
        }
        self.after_unknown = token.is_none();
    }

    /// Returns the tokens; the last one reaches to the end of the text.
    fn finish(mut self, text_len: usize) -> Encoding {
        if let Some(end) = self.encoding.ends.last_mut() {
            *end = text_len as u32;
        }
        self.encoding
    }
}

/// Returns the length of the character that starts a text, from its first byte.
fn char_len(text: &[u8]) -> usize {
    let len = match text.first() {
        Some(0xF0..) => 4,
        Some(0xE0..) => 3,
        Some(0xC0..) => 2,
        _ => 1,
    };
    len.min(text.len())
}
