//! Held-out documents that repeat training documents: with them a model would be tested on what it has read.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use rayon::prelude::*;

use super::Member;
use crate::{DataError, NearCopy, Split};

/// Number of lines of a run that is compared.
const RUN_LEN: usize = 8;

/// Part of a document's runs from which on it counts as a near copy.
const MAX_SHARED: f64 = 0.2;

/// Returns the held-out documents more than a fifth of whose runs of eight lines stand in training documents too.
pub(super) fn near_copies(members: &[Member]) -> Result<Vec<NearCopy>, DataError> {
    let runs = members.par_iter().map(|m| Ok(runs(&m.text()?))).collect::<Result<Vec<_>, DataError>>()?;
    let mut train: HashMap<u64, usize> = HashMap::new();
    for member_idx in (0..members.len()).filter(|&i| members[i].split == Split::Train) {
        train.extend(runs[member_idx].iter().map(|&run| (run, member_idx)));
    }
    let mut copies = Vec::new();
    for (member, runs) in members.iter().zip(&runs).filter(|(m, _)| m.split != Split::Train) {
        let mut counts: HashMap<usize, usize> = HashMap::new();
        for member_idx in runs.iter().filter_map(|run| train.get(run)) {
            *counts.entry(*member_idx).or_default() += 1;
        }
        let shared = counts.values().sum::<usize>() as f64 / runs.len() as f64;
        let most = counts.into_iter().max_by_key(|&(member_idx, count)| (count, member_idx));
        if let Some((member_idx, _)) = most.filter(|_| shared > MAX_SHARED) {
            let (name, train_document) = (member.name.clone(), members[member_idx].name.clone());
            copies.push(NearCopy { name, split: member.split, train_document, shared });
        }
    }
    Ok(copies)
}

/// Returns the hashes of all runs of eight lines that are not empty; the whole text is one where it is shorter.
fn runs(text: &[u8]) -> HashSet<u64> {
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let lines: Vec<&[u8]> = lines.collect();
    let hash = |run: &[&[u8]]| {
        let mut hasher = DefaultHasher::new();
        run.hash(&mut hasher);
        hasher.finish()
    };
    lines.windows(RUN_LEN.min(lines.len().max(1))).map(hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Text;

    fn member(name: &str, split: Split, lines: std::ops::Range<usize>) -> Member {
        let text: String = lines.map(|i| format!("  line {i}\n\n")).collect();
        Member { name: name.into(), group: name.into(), split, text: Text::Memory(text.into_bytes()) }
    }

    #[test]
    fn a_copy_in_a_held_out_split_is_found_with_its_share() {
        let members = [
            member("train", Split::Train, 0..100),
            member("fresh", Split::Test, 200..300),
            member("half", Split::Test, 50..150),
            member("little", Split::Validation, 90..200),
        ];
        // Of the 93 runs of `half`, 43 lie in lines 50..100.
        let copies = near_copies(&members).unwrap();
        let shared = 43. / 93.;
        let half =
            NearCopy { name: "half".into(), split: Split::Test, train_document: "train".into(), shared };
        assert_eq!(copies, [half]);
    }
}
