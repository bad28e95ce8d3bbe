//! Strings at which a text ends, found while it comes.

/// A string to look for, and how much of it the text so far ends with.
#[derive(Debug, Clone)]
pub(super) struct StopString {
    bytes: Vec<u8>,
    /// For each length of the string's beginning: the longest shorter one that it ends with.
    fallbacks: Vec<usize>,
    matched: usize,
}

impl StopString {
    /// Returns the search for a string, which must not be empty.
    ///
    /// # Source
    /// Knuth, Morris and Pratt: each byte of the text is looked at once, whatever the string's length.
    pub(super) fn new(text: String) -> Self {
        let bytes = text.into_bytes();
        let mut stop = Self { fallbacks: vec![0; bytes.len() + 1], bytes, matched: 0 };
        for i in 1..stop.bytes.len() {
            stop.push(stop.bytes[i]);
            stop.fallbacks[i + 1] = stop.matched;
        }
        stop.matched = 0;
        stop
    }

    /// Takes the next byte of the text.
    pub(super) fn push(&mut self, byte: u8) {
        while self.matched > 0 && self.bytes.get(self.matched) != Some(&byte) {
            self.matched = self.fallbacks[self.matched];
        }
        self.matched += usize::from(self.bytes[self.matched] == byte);
    }

    /// Returns the length of the text's end that is the string, or its beginning.
    pub(super) fn matched(&self) -> usize {
        self.matched
    }

    /// Returns whether the text ends with the string.
    pub(super) fn is_found(&self) -> bool {
        self.matched == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_is_kept() {
        let mut stop = StopString::new("aabaaa".to_owned());
        let mut matched = |text: &str| {
            text.bytes().for_each(|byte| stop.push(byte));
            (stop.matched(), stop.is_found())
        };
        assert_eq!(matched("aaa"), (2, false));
        assert_eq!(matched("baab"), (3, false));
        assert_eq!(matched("aaa"), (6, true));
        assert_eq!(matched("b"), (3, false));
        assert_eq!(matched("c"), (0, false));
    }
}
