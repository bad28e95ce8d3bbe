//! A set of strings that finds those which a text begins with.

/// Stands for no value.
const NONE: u32 = u32::MAX;

/// A trie over bytes. The children of a node are neighbours, sorted by their bytes: nodes are numbered level by level.
#[derive(Debug)]
pub(super) struct Trie {
    /// First child of each node; the children end where those of the next node begin.
    first_child: Vec<u32>,
    /// The byte that leads to each node.
    bytes: Vec<u8>,
    /// The value of the string that ends at each node.
    values: Vec<u32>,
    /// The child of the first node by each byte: it has many, and is asked most.
    first_level: Vec<u32>,
}

impl Trie {
    /// Returns the trie of strings with their values; of equal strings the one with the smallest value counts.
    pub(super) fn new<'a>(strings: impl Iterator<Item = (&'a [u8], u32)>) -> Self {
        let mut strings: Vec<_> = strings.collect();
        strings.sort_unstable();
        strings.dedup_by_key(|(string, _)| *string);
        let mut trie =
            Self { first_child: vec![], bytes: vec![0], values: vec![], first_level: vec![NONE; 256] };
        // The strings below each node, and the length of what they share.
        let mut below = vec![(0..strings.len(), 0)];
        let mut node = 0;
        while node < below.len() {
            let (mut range, depth) = below[node].clone();
            trie.first_child.push(below.len() as u32);
            let ends_here = strings.get(range.start).filter(|(string, _)| string.len() == depth);
            trie.values.push(ends_here.map_or(NONE, |(_, value)| *value));
            range.start += usize::from(ends_here.is_some());
            while !range.is_empty() {
                let byte = strings[range.start].0[depth];
                let len = strings[range.clone()].partition_point(|(string, _)| string[depth] == byte);
                below.push((range.start..range.start + len, depth + 1));
                trie.bytes.push(byte);
                range.start += len;
            }
            node += 1;
        }
        trie.first_child.push(below.len() as u32);
        for node in 1..trie.first_child[1] {
            trie.first_level[usize::from(trie.bytes[node as usize])] = node;
        }
        trie
    }

    /// Returns the value of a string.
    pub(super) fn get(&self, string: &[u8]) -> Option<u32> {
        let node = string.iter().try_fold(0, |node, &byte| self.child(node, byte))?;
        Some(self.values[node]).filter(|&value| value != NONE)
    }

    /// Returns the strings that the text begins with, from short to long, as their lengths and values.
    pub(super) fn prefixes(&self, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        let nodes = text.iter().scan(0, |node, &byte| {
            *node = self.child(*node, byte)?;
            Some(self.values[*node])
        });
        (1..).zip(nodes).filter(|&(_, value)| value != NONE)
    }

    /// Returns the child of a node that a byte leads to.
    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        if node == 0 {
            return Some(self.first_level[usize::from(byte)])
                .filter(|&node| node != NONE)
                .map(|node| node as usize);
        }
        let first = self.first_child[node] as usize;
        let children = &self.bytes[first..self.first_child[node + 1] as usize];
        let child = match children.len() {
            0..=8 => children.iter().position(|&b| b == byte)?,
            _ => children.binary_search(&byte).ok()?,
        };
        Some(first + child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_string_and_all_that_a_text_begins_with() {
        let strings: [&[u8]; 7] = [b"b", b"", b"abc", b"a", b"ab\0", b"\xFF", b"a"];
        let trie = Trie::new(strings.into_iter().zip(0..));
        let found: Vec<_> =
            [b"a".as_slice(), b"abc", b"ab", b"", b"\xFF", b"abcd"].map(|s| trie.get(s)).into();
        assert_eq!(found, [Some(3), Some(2), None, Some(1), Some(5), None]);
        assert_eq!(trie.prefixes(b"abcd").collect::<Vec<_>>(), [(1, 3), (3, 2)]);
        assert_eq!(trie.prefixes(b"ab\0b").collect::<Vec<_>>(), [(1, 3), (3, 4)]);
        assert_eq!(Trie::new([].into_iter()).prefixes(b"a").count(), 0);
    }

    #[test]
    fn finds_children_among_many() {
        let strings: Vec<[u8; 2]> = (0..=255).map(|byte| [byte, 255 - byte]).collect();
        let trie = Trie::new(strings.iter().map(|s| (s.as_slice(), u32::from(s[0]))));
        assert!(strings.iter().all(|s| trie.get(s) == Some(u32::from(s[0]))));
        assert_eq!(trie.get(&[3, 3]), None);
    }
}
