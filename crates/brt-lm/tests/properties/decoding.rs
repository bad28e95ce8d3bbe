//! Token by token, or a text at once.

use brt_lm::Decoder;
use proptest::prelude::*;
use tch::Tensor;

use crate::{ROUNDING, any_case, common::tokens, forward, relative};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// Token by token equals segment by segment, from a carried state, over several segments, whatever the batch.
    #[test]
    fn decoding_equals_training_forward(case in any_case()) {
        let model = case.model();
        let (_, state) = forward(&model, &case.segment(0), &model.initial_state(case.batch));
        let mut decoder = Decoder::new(&model, state.map(Tensor::copy));
        let mut state = state;
        for segment in 1..=2 {
            let text = case.segment(segment);
            let (logits, next) = forward(&model, &text, &state);
            for position in 0..case.segment_len() {
                let got = decoder.step(&text.select(1, position));
                let error = relative(&got, &logits.select(1, position));
                prop_assert!(error <= 2. * ROUNDING, "{}: position {position}: {error}", case.name);
            }
            state = next;
        }
    }

    /// Feeding a prompt at once, in pieces, and token by token gives the same next logits.
    #[test]
    fn feeding_in_pieces_equals_feeding_at_once(case in any_case(), cut in any::<prop::sample::Index>()) {
        let model = case.model();
        let prompt = tokens(1, 2 * case.segment_len() + 1, case.seed).get(0);
        let prompt: Vec<i64> = prompt.try_into().map_err(|_| TestCaseError::fail("a row of tokens"))?;
        let at_once = Decoder::new(&model, model.initial_state(1)).feed(&prompt);
        let mut decoder = Decoder::new(&model, model.initial_state(1));
        let (first, rest) = prompt.split_at(1 + cut.index(prompt.len() - 1));
        let _ = decoder.feed(first);
        let in_pieces = decoder.feed(rest);
        prop_assert!(relative(&in_pieces, &at_once) <= 2. * ROUNDING, "{}", case.name);
    }
}
