//! Token by token, or a text at once.

use brt_lm::{Decoder, LanguageModel, ModelState, TextState};
use proptest::prelude::*;
use tch::Tensor;

use crate::{
    ROUNDING, any_case,
    common::{build_seeded, tokens},
    forward, relative,
};

/// Rows of a state as texts of their own, after `num_tokens`.
fn resume(decoder: &Decoder, state: &ModelState, batch: i64, num_tokens: i64) -> Vec<TextState> {
    let rows = state.split(batch as usize);
    rows.iter().map(|row| decoder.resume(row, num_tokens as u64)).collect()
}

fn list(tokens: &Tensor) -> Vec<i64> {
    tokens.try_into().expect("a row of tokens")
}

/// Returns the largest difference of the logits at all positions, and the state after the text.
fn check(model: &LanguageModel, text: &[i64], expected: &Tensor, pieces: &[usize]) -> (f64, TextState) {
    let decoder = Decoder::new(model);
    let mut state = decoder.start();
    let (mut rest, mut logits) = (text, vec![]);
    for len in pieces.iter().cycle() {
        let (piece, later) = rest.split_at((*len).min(rest.len()));
        logits.push(match piece {
            [token] => decoder.step(&mut [&mut state], &[*token]),
            _ => decoder.feed_all(&mut state, piece),
        });
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    (relative(&Tensor::cat(&logits, 0), expected), state)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// Token by token equals segment by segment, from a carried state, over several segments, whatever the batch.
    #[test]
    fn decoding_equals_training_forward(case in any_case()) {
        let model = case.model();
        let (_, state) = forward(&model, &case.segment(0), &model.initial_state(case.batch));
        let decoder = Decoder::new(&model);
        let mut texts = resume(&decoder, &state, case.batch, case.segment_len());
        let mut state = state;
        for segment in 1..=2 {
            let tokens = case.segment(segment);
            let (logits, next) = forward(&model, &tokens, &state);
            for position in 0..case.segment_len() {
                let mut rows: Vec<&mut TextState> = texts.iter_mut().collect();
                let got = decoder.step(&mut rows, &list(&tokens.select(1, position)));
                let error = relative(&got, &logits.select(1, position));
                prop_assert!(error <= 2. * ROUNDING, "{}: position {position}: {error}", case.name);
            }
            state = next;
        }
    }

    /// A text in pieces of any lengths has the logits of training at every position; so has what is scored.
    #[test]
    fn pieces_of_any_length_equal_training_forward(
        case in any_case(),
        pieces in prop::collection::vec(1usize..12, 1..6),
    ) {
        let model = case.model();
        let num_segments = 3;
        let (mut state, mut logits, mut text) = (model.initial_state(1), vec![], vec![]);
        for segment in 0..num_segments {
            let tokens = tokens(1, case.segment_len(), case.seed + segment);
            let (of_segment, next) = forward(&model, &tokens, &state);
            logits.push(of_segment.squeeze_dim(0));
            text.extend(list(&tokens.squeeze_dim(0)));
            state = next;
        }
        let logits = Tensor::cat(&logits, 0);
        let (error, end) = check(&model, &text, &logits, &pieces);
        prop_assert!(error <= 2. * ROUNDING, "{}: pieces of {pieces:?}: {error}", case.name);
        prop_assert_eq!(end.num_tokens(), text.len() as u64);

        let decoder = Decoder::new(&model);
        let mut state = decoder.start();
        let (first, rest) = text.split_at(pieces[0].min(text.len()));
        let nats = [decoder.score(&mut state, first), decoder.score(&mut state, rest)].concat();
        prop_assert_eq!(nats[0], None);
        let expected = logits.log_softmax(-1, tch::Kind::Double);
        for (i, nats) in nats.iter().enumerate().skip(1) {
            let expected = -expected.double_value(&[i as i64 - 1, text[i]]);
            let got = nats.unwrap_or(f64::NAN);
            prop_assert!((got - expected).abs() <= 1e-4, "{}: token {i}: {got} {expected}", case.name);
        }
    }

    /// Texts at different places in one batch have what they have alone, to the last bit.
    #[test]
    fn rows_at_different_places_do_not_meet(case in any_case(), lens in prop::collection::vec(0usize..40, 2..40)) {
        let model = case.model();
        let decoder = Decoder::new(&model);
        let starts: Vec<Vec<i64>> = (0..lens.len())
            .map(|row| list(&tokens(1, 40, case.seed + row as u64).get(0))[..lens[row]].to_vec())
            .collect();
        let begin = |tokens: &Vec<i64>| {
            let mut text = decoder.start();
            if !tokens.is_empty() {
                let _ = decoder.feed(&mut text, tokens);
            }
            text
        };
        let mut together: Vec<TextState> = starts.iter().map(begin).collect();
        let mut alone: Vec<TextState> = together.iter().map(TextState::copy).collect();
        for step in 0..case.segment_len().min(9) {
            let next = list(&tokens(1, lens.len() as i64, case.seed + 100 + step as u64).get(0));
            let mut rows: Vec<&mut TextState> = together.iter_mut().collect();
            let logits = decoder.step(&mut rows, &next);
            for (row, text) in alone.iter_mut().enumerate() {
                let expected = decoder.step(&mut [text], &[next[row]]).get(0);
                prop_assert_eq!(logits.get(row as i64), expected, "{}: row {}, step {}", case.name, row, step);
            }
        }
    }
}

/// With matrices in bfloat16 the logits are those of float32 but for the rounding of matrices and inputs to eight bits, in
/// pieces and token by token; the model is the same by its hash.
#[test]
fn bfloat16_rounds_and_no_more() {
    const EIGHT_BITS: f64 = 0.03;
    // Which neighbours a memory finds is all or nothing: rounding may find others.
    let models =
        crate::common::every_model(3, 20, 9).into_iter().filter(|(_, config)| config.memory.is_none());
    for (name, config) in models {
        let [exact, halved] = [0, 1].map(|_| build_seeded(config.clone(), 1));
        let halved = halved.into_bfloat16();
        assert_eq!(exact.hash(), halved.hash(), "{name}");
        let text = list(&tokens(1, 24, 1).get(0));
        let run = |model: &LanguageModel, piece_len: usize| {
            let decoder = Decoder::new(model);
            let mut state = decoder.start();
            let pieces = text.chunks(piece_len).map(|piece| match piece {
                [token] => decoder.step(&mut [&mut state], &[*token]),
                _ => decoder.feed_all(&mut state, piece),
            });
            Tensor::cat(&pieces.collect::<Vec<_>>(), 0)
        };
        let expected = run(&exact, 24);
        for piece_len in [24, 7, 1] {
            let error = relative(&run(&halved, piece_len), &expected);
            assert!(error <= EIGHT_BITS, "{name}: pieces of {piece_len}: {error}");
        }
    }
}
