//! Texts to tokens and back: bytes, Hugging Face's `tokenizer.json`, SentencePiece's `.model`.

mod byte_level;
mod decode;
mod error;
mod hugging_face;
mod sentence_piece;
mod spelling;
mod stop;
mod text_decoder;
mod train;

use std::{fmt, fs::File, io::Read, path::Path, str, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::{error::Fault, hugging_face::HuggingFace, sentence_piece::SentencePiece};
pub use self::{error::TokenizerError, text_decoder::TextDecoder, train::train_bpe};

/// Longest file that is read as a tokenizer; the largest that are in use have 35 MB.
const MAX_FILE_LEN: u64 = 1 << 28;

/// Longest text that is encoded at once: positions are `u32`.
const MAX_TEXT_LEN: usize = u32::MAX as usize;

/// What a tokenizer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// One token per byte in the T5 byte layout: 0 padding, 1 end, 2 unknown, byte `b` is `b + 3`.
    T5Bytes,
    /// One token per byte, which is the byte itself.
    Bytes,
    /// A `tokenizer.json` of Hugging Face.
    HuggingFace,
    /// A SentencePiece `.model`.
    SentencePiece,
}

impl TokenizerKind {
    /// Returns whether each token is a byte.
    pub fn is_bytes(self) -> bool {
        matches!(self, Self::T5Bytes | Self::Bytes)
    }
}

/// Whether a text begins a document or continues one that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPlace {
    /// The text begins a document: a tokenizer that puts a space before a document does so.
    Start,
    /// The text goes on where another one was cut.
    Continuation,
}

/// Tokens of a text and where each of them ends in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoding {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// End of each token in the text, in bytes: token `i` stands for the bytes `ends[i - 1]..ends[i]`.
    ///
    /// They never fall, and the last one is the text's length: each byte belongs to exactly one token. Bytes that
    /// the tokenizer drops belong to the token before them, or to the first one; of several tokens for one
    /// character the last one has its bytes, unless each of them stands for bytes of its own.
    pub ends: Vec<u32>,
}

/// A tokenizer: bytes, a `tokenizer.json` of Hugging Face, or a SentencePiece `.model`; a clone is a pointer.
///
/// ```
/// use brt_data::{TextPlace, Tokenizer};
/// # fn main() -> Result<(), brt_data::TokenizerError> {
/// let tokenizer = Tokenizer::open("t5-bytes")?;
/// let encoding = tokenizer.encode(b"AB\n", TextPlace::Start)?;
/// assert_eq!(encoding.tokens, [68, 69, 13]);
/// assert_eq!(encoding.ends, [1, 2, 3]);
/// assert_eq!(tokenizer.decode(&[68, 69, 1]), b"AB");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

/// What the clones of a tokenizer share.
struct Inner {
    kind: TokenizerKind,
    contents: Vec<u8>,
    sha256: String,
    codec: Codec,
}

/// How texts become tokens.
enum Codec {
    Bytes { num_special: u32 },
    HuggingFace(Box<HuggingFace>),
    SentencePiece(Box<SentencePiece>),
}

impl Tokenizer {
    /// The names that [`Tokenizer::file_name`] gives.
    pub const FILE_NAMES: [&str; 3] = ["tokenizer.bytes", "tokenizer.json", "tokenizer.model"];

    /// Returns the byte tokenizer in the T5 layout: 256 bytes after three special tokens, and one unused row.
    pub fn t5_bytes() -> Self {
        Self::new(TokenizerKind::T5Bytes, b"t5-bytes\n".to_vec(), Codec::Bytes { num_special: 3 })
    }

    /// Returns the byte tokenizer without special tokens.
    pub fn bytes() -> Self {
        Self::new(TokenizerKind::Bytes, b"bytes\n".to_vec(), Codec::Bytes { num_special: 0 })
    }

    /// Returns the tokenizer of this name, `t5-bytes` or `bytes`, or the one in the file at this path.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read as a tokenizer.
    pub fn open(name_or_path: &str) -> Result<Self, TokenizerError> {
        match name_or_path {
            "t5-bytes" => Ok(Self::t5_bytes()),
            "bytes" => Ok(Self::bytes()),
            path if Path::new(path).exists() => Self::from_file(Path::new(path)),
            got => Err(TokenizerError::Unknown { got: got.to_owned() }),
        }
    }

    /// Returns the tokenizer in a file: a `tokenizer.json`, a SentencePiece `.model`, or what
    /// [`Tokenizer::file_contents`] returned. The contents tell which, not the name.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or holds a kind of model that this version does not know.
    pub fn from_file(path: &Path) -> Result<Self, TokenizerError> {
        let io = |source| TokenizerError::Io { path: path.to_path_buf(), source };
        let mut contents = Vec::new();
        File::open(path).and_then(|f| f.take(MAX_FILE_LEN + 1).read_to_end(&mut contents)).map_err(io)?;
        if contents.len() as u64 > MAX_FILE_LEN {
            return Err(TokenizerError::FileTooLong { path: path.to_path_buf(), max: MAX_FILE_LEN });
        }
        Self::from_contents(contents).map_err(|fault| fault.at(path))
    }

    /// Returns the tokenizer in the contents of a file.
    fn from_contents(contents: Vec<u8>) -> Result<Self, Fault> {
        match contents.trim_ascii() {
            b"t5-bytes" => Ok(Self::t5_bytes()),
            b"bytes" => Ok(Self::bytes()),
            [] => Err(Fault::damaged("a tokenizer", "an empty file")),
            // A SentencePiece model whose first piece is as long as `{` says is not text.
            [b'{', ..] if str::from_utf8(&contents).is_ok() => {
                let codec = Codec::HuggingFace(Box::new(HuggingFace::new(&contents)?));
                Ok(Self::new(TokenizerKind::HuggingFace, contents, codec))
            }
            _ => {
                let codec = Codec::SentencePiece(Box::new(SentencePiece::new(&contents)?));
                Ok(Self::new(TokenizerKind::SentencePiece, contents, codec))
            }
        }
    }

    /// Returns a tokenizer of its parts.
    fn new(kind: TokenizerKind, contents: Vec<u8>, codec: Codec) -> Self {
        let sha256 = format!("{:x}", Sha256::digest(&contents));
        Self { inner: Arc::new(Inner { kind, contents, sha256, codec }) }
    }

    /// Returns the tokenizer's kind.
    pub fn kind(&self) -> TokenizerKind {
        self.inner.kind
    }

    /// Returns the number of rows that an embedding table needs: the largest token and one.
    pub fn vocab_size(&self) -> usize {
        match &self.inner.codec {
            // The paper's table has 260 rows, of which the last one is unused.
            Codec::Bytes { num_special: 3 } => 260,
            Codec::Bytes { .. } => 256,
            Codec::HuggingFace(codec) => codec.vocab_size(),
            Codec::SentencePiece(codec) => codec.vocab_size(),
        }
    }

    /// Returns the SHA-256 of [`Tokenizer::file_contents`] in hexadecimal digits.
    pub fn sha256(&self) -> &str {
        &self.inner.sha256
    }

    /// Returns the name under which the tokenizer is saved beside a corpus or a run.
    pub fn file_name(&self) -> &'static str {
        let [bytes, hugging_face, sentence_piece] = Self::FILE_NAMES;
        match self.inner.kind {
            TokenizerKind::T5Bytes | TokenizerKind::Bytes => bytes,
            TokenizerKind::HuggingFace => hugging_face,
            TokenizerKind::SentencePiece => sentence_piece,
        }
    }

    /// Returns what to save so that [`Tokenizer::from_file`] returns the same tokenizer: the file that it came from,
    /// or the name of a byte tokenizer and a line feed.
    pub fn file_contents(&self) -> &[u8] {
        &self.inner.contents
    }

    /// Returns the tokens of a text, without start and end tokens.
    ///
    /// Text that spells a special token, such as `<|endoftext|>`, is text: no document can write a special token.
    ///
    /// # Errors
    /// The text is not UTF-8 (byte tokenizers take any bytes), or too long.
    pub fn encode(&self, text: &[u8], place: TextPlace) -> Result<Encoding, TokenizerError> {
        check_len(text.len())?;
        if let Codec::Bytes { num_special } = self.inner.codec {
            let tokens = text.iter().map(|&byte| u32::from(byte) + num_special).collect();
            return Ok(Encoding { tokens, ends: (1..=text.len() as u32).collect() });
        }
        let text = str::from_utf8(text).map_err(|e| TokenizerError::NotUtf8 { position: e.valid_up_to() })?;
        match &self.inner.codec {
            Codec::HuggingFace(codec) => codec.encode(text, place),
            Codec::SentencePiece(codec) => codec.encode(text, place),
            Codec::Bytes { .. } => Ok(Encoding::default()),
        }
    }

    /// Returns the last place where a text may be cut so that the tokens of its two parts are the tokens of the whole:
    /// before a line feed or a space between two letters or digits; `None` if there is none. The second part is then
    /// a [`TextPlace::Continuation`].
    ///
    /// This holds for the tokenizers in common use, not for one with a piece that joins words. Where a SentencePiece
    /// Unigram model must cut a line, of two ways to divide a word that are equally probable it may choose the other.
    pub fn last_cut(&self, text: &[u8]) -> Option<usize> {
        let white_space = match &self.inner.codec {
            Codec::Bytes { .. } => return Some(text.len()).filter(|&len| len > 0),
            Codec::HuggingFace(codec) => codec.cuts(),
            Codec::SentencePiece(_) => b"\n ",
        };
        // Only between letters or digits: white space and marks may belong to one token with what is around them.
        let text = str::from_utf8(text).ok()?;
        let is_cut = |&place: &usize| {
            let (before, after) = (text[..place].chars().next_back(), text[place + 1..].chars().next());
            before.is_some_and(char::is_alphanumeric) && after.is_some_and(char::is_alphanumeric)
        };
        let last = |&space: &u8| memchr::memrchr_iter(space, text.as_bytes()).find(is_cut);
        white_space.iter().find_map(last)
    }
}

/// Checks that the positions of a text, or of its normalised form, are small enough.
fn check_len(got: usize) -> Result<(), TokenizerError> {
    if got > MAX_TEXT_LEN {
        return Err(TokenizerError::TextTooLong { max: MAX_TEXT_LEN, got });
    }
    Ok(())
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner } = self;
        f.debug_struct("Tokenizer").field("kind", &inner.kind).field("sha256", &inner.sha256).finish()
    }
}
