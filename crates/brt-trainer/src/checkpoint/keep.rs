//! Which checkpoints stay.

/// Which checkpoints a run keeps.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keep {
    /// Number of the latest ones.
    pub(crate) last: usize,
    /// Steps between those that are kept for ever.
    pub(crate) every: Option<u64>,
    /// Step of the one with the best validation loss.
    pub(crate) best: Option<u64>,
}

impl Keep {
    /// Returns which of these steps, sorted, are not kept.
    pub(super) fn dropped(self, steps: &[u64]) -> Vec<u64> {
        let older = &steps[..steps.len().saturating_sub(self.last.max(1))];
        let is_dropped = |step: &&u64| {
            self.best != Some(**step) && !self.every.is_some_and(|every| step.is_multiple_of(every))
        };
        older.iter().filter(is_dropped).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_the_best_and_every_nth_are_kept() {
        let steps = [100, 200, 250, 300, 400, 450];
        let dropped = |last, every, best| Keep { last, every, best }.dropped(&steps);
        assert_eq!(dropped(2, None, None), [100, 200, 250, 300]);
        assert_eq!(dropped(2, Some(200), None), [100, 250, 300]);
        assert_eq!(dropped(1, Some(200), Some(250)), [100, 300]);
        assert!(dropped(9, None, None).is_empty());
        assert_eq!(dropped(0, None, None), [100, 200, 250, 300, 400]); // Never the one that was just written.
    }
}
