//! Pieces back to text.

use std::borrow::Cow;

use super::{PieceKind, SentencePiece};

/// What stands before a token, as far as the token's text depends on it.
#[derive(Debug, Clone)]
pub(in crate::tokenizer) struct Before {
    /// Whether no text stands before it, so that its space may be the one that the model puts before a text.
    may_drop_space: bool,
}

impl SentencePiece {
    /// Returns what stands before the first token of a text.
    pub(in crate::tokenizer) fn start(&self) -> Before {
        Before { may_drop_space: self.normalizer.adds_space_at_start() }
    }

    /// Returns the text of the tokens at the start of a text.
    pub(in crate::tokenizer) fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        let (mut before, mut text) = (self.start(), Vec::new());
        tokens.iter().for_each(|&token| self.push(&mut before, token, &mut text));
        text
    }

    /// Appends the text of a token to `text`.
    pub(in crate::tokenizer) fn push(&self, before: &mut Before, token: u32, text: &mut Vec<u8>) {
        let Some(piece) = self.vocabulary.pieces.get(token as usize) else { return };
        if let Some(byte) = piece.byte() {
            before.may_drop_space = false;
            text.push(byte);
            return;
        }
        let surface = match piece.kind {
            PieceKind::Control => return,
            PieceKind::Unknown => Cow::from(&self.unknown_surface),
            _ => {
                let rest = piece.text.strip_prefix('\u{2581}').filter(|_| before.may_drop_space);
                // A space before the text is dropped once, or all are that the model would not have kept.
                before.may_drop_space &= rest.is_none() || self.normalizer.remove_extra_whitespaces();
                Cow::from(rest.unwrap_or(&piece.text).replace('\u{2581}', " "))
            }
        };
        before.may_drop_space &= surface.is_empty();
        text.extend_from_slice(surface.as_bytes());
    }
}

impl Before {
    /// Returns what stands before a token within a text.
    pub(in crate::tokenizer) fn within() -> Self {
        Self { may_drop_space: false }
    }
}
