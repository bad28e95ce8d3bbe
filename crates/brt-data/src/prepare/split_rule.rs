//! Which split a document belongs to where its input has none: a hash of its group decides.

use std::collections::HashMap;

use crate::{Split, corpus::fraction};

/// What is hashed before a group's name.
const SALT: &str = "brt-data folder 1: ";

/// The rule of one corpus.
#[derive(Debug, Clone, Default)]
pub(super) struct SplitRule {
    validation: f64,
    test: f64,
    /// Groups that were moved to a split that the hash left empty.
    moved: HashMap<String, Split>,
}

impl SplitRule {
    /// Returns the rule for these parts. Where all groups are known and are at least three, none of the splits that have
    /// a part is left empty.
    pub(super) fn new(validation: f64, test: f64, groups: &[&str]) -> Self {
        let mut rule = Self { validation, test, moved: HashMap::new() };
        if groups.len() < Split::ALL.len() {
            return rule;
        }
        for (split, part) in [(Split::Train, 1.), (Split::Validation, validation), (Split::Test, test)] {
            let count = |split| groups.iter().filter(|group| rule.split(group) == split).count();
            if part == 0. || count(split) > 0 {
                continue;
            }
            let fullest = Split::ALL.into_iter().max_by_key(|&split| count(split));
            let candidates = groups.iter().filter(|group| Some(rule.split(group)) == fullest);
            let moved = candidates.min_by(|a, b| fraction(SALT, a).total_cmp(&fraction(SALT, b)));
            rule.moved.extend(moved.map(|group| ((*group).to_owned(), split)));
        }
        rule
    }

    /// Returns the split of a group; it does not change when other groups come or go, unless a split would be empty.
    pub(super) fn split(&self, group: &str) -> Split {
        if let Some(&split) = self.moved.get(group) {
            return split;
        }
        match fraction(SALT, group) {
            part if part < self.test => Split::Test,
            part if part < self.test + self.validation => Split::Validation,
            _ => Split::Train,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_groups_are_enough_for_three_splits() {
        let rule = SplitRule::new(0.05, 0.05, &["a", "b", "c"]);
        let mut splits = ["a", "b", "c"].map(|group| rule.split(group));
        splits.sort_unstable();
        assert_eq!(splits, Split::ALL);
        let rule = SplitRule::new(0., 0.1, &["a", "b", "c"]);
        assert!(["a", "b", "c"].iter().all(|group| rule.split(group) != Split::Validation));
    }

    #[test]
    fn parts_are_as_asked_for() {
        let names: Vec<String> = (0..2000).map(|i| i.to_string()).collect();
        let rule = SplitRule::new(0.2, 0.1, &[]);
        let count = |split| names.iter().filter(|name| rule.split(name) == split).count();
        assert!((350..450).contains(&count(Split::Validation)), "{}", count(Split::Validation));
        assert!((160..240).contains(&count(Split::Test)), "{}", count(Split::Test));
    }
}
