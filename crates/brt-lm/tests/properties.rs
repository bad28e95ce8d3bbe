//! Properties that every variant must have, whatever its numbers: who can see whom, and what state means.

mod common;

use brt_lm::{Carry, Decoder, LanguageModel, Mode, ModelState};
use common::{VARIANTS, build, config, difference, tokens};
use tch::{Kind, Tensor};

/// Float32 rounding through three layers; logits are of size 1 to 10.
const ROUNDING: f64 = 2e-5;

fn forward(model: &LanguageModel, tokens: &Tensor, state: &ModelState) -> (Tensor, ModelState) {
    tch::no_grad(|| model.forward(tokens, state, Mode::Eval))
}

fn starts(rows: &[bool]) -> Tensor {
    Tensor::from_slice(rows)
}

/// A later token never changes an earlier logit; a token of block t changes later blocks of a recurrent model.
#[test]
fn nothing_sees_the_future() {
    let (window_len, num_blocks) = (3, 4);
    for variant in VARIANTS {
        let model = build(config(variant, window_len, 2));
        let before = tokens(1, window_len * num_blocks, 1);
        let (logits, _) = forward(&model, &before, &model.initial_state(1));
        for position in 0..window_len * num_blocks {
            let after = before.copy();
            let _ = after.get(0).get(position).fill_((before.int64_value(&[0, position]) + 1) % 23);
            let (changed, _) = forward(&model, &after, &model.initial_state(1));
            if position > 0 {
                let past = |x: &Tensor| x.narrow(1, 0, position);
                assert_eq!(past(&changed), past(&logits), "{variant:?}: token {position} changed its past");
            }
            assert!(difference(&changed, &logits) > 1e-4, "{variant:?}: token {position} changed nothing");
        }
    }
}

/// Attention alone reaches L·W tokens; a recurrent state reaches every later block.
#[test]
fn recurrence_reaches_further_than_attention() {
    let window_len = 2;
    for variant in VARIANTS {
        let config = config(variant, window_len, 2);
        let reach = config.num_layers * window_len;
        let model = build(config);
        let before = tokens(1, 16, 1);
        let after = before.copy();
        let _ = after.get(0).get(0).fill_((before.int64_value(&[0, 0]) + 1) % 23);
        let run = |tokens: &Tensor| forward(&model, tokens, &model.initial_state(1)).0;
        let beyond = |x: &Tensor| x.narrow(1, reach + 1, 16 - reach - 1);
        let change = difference(&beyond(&run(&after)), &beyond(&run(&before)));
        assert_eq!(change > 0., variant.is_some(), "{variant:?}: change of {change} beyond attention");
    }
}

/// Two segments with carried state equal one segment of both, at odd sizes.
#[test]
fn segments_with_carried_state_equal_one_long_segment() {
    for variant in VARIANTS {
        for (window_len, num_states, batch, blocks) in
            [(1, 1, 1, 3), (3, 1, 2, 2), (3, 5, 2, 3), (7, 3, 1, 2)]
        {
            let model = build(config(variant, window_len, num_states));
            let tokens = tokens(batch, 2 * blocks * window_len, 2);
            let halves = tokens.chunk(2, 1);
            let (whole, end) = forward(&model, &tokens, &model.initial_state(batch));
            let (first, middle) = forward(&model, &halves[0], &model.initial_state(batch));
            let (second, carried_end) = forward(&model, &halves[1], &middle);
            let error = difference(&Tensor::cat(&[first, second], 1), &whole);
            assert!(error < ROUNDING, "{variant:?} W {window_len}: logits differ by {error}");
            for ((name, a), (_, b)) in end.named().into_iter().zip(carried_end.named()) {
                assert!(difference(&a, &b) < ROUNDING, "{variant:?} W {window_len}: {name}");
            }
        }
    }
}

/// A row where a document starts equals a fresh model; the other row goes on.
#[test]
fn a_reset_row_equals_a_fresh_row() {
    for variant in VARIANTS {
        let model = build(config(variant, 3, 4));
        let (first, second) = (tokens(2, 6, 1), tokens(2, 6, 2));
        let (_, carried) = forward(&model, &first, &model.initial_state(2));
        let (reset, _) = forward(&model, &second, &model.reset_rows(&carried, &starts(&[true, false])));
        let (fresh, _) = forward(&model, &second, &model.initial_state(2));
        let (continued, _) = forward(&model, &second, &carried);
        assert_eq!(reset.get(0), fresh.get(0), "{variant:?}");
        assert_eq!(reset.get(1), continued.get(1), "{variant:?}");
        assert_ne!(fresh.get(1), continued.get(1), "{variant:?}");
    }
}

/// The order of the rows does not matter.
#[test]
fn rows_are_independent() {
    for variant in VARIANTS {
        let model = build(config(variant, 3, 4));
        let tokens = tokens(3, 9, 1);
        let order = Tensor::from_slice(&[2i64, 0, 1]);
        let (logits, _) = forward(&model, &tokens, &model.initial_state(3));
        let (permuted, _) = forward(&model, &tokens.index_select(0, &order), &model.initial_state(3));
        assert!(difference(&permuted, &logits.index_select(0, &order)) < ROUNDING, "{variant:?}");
    }
}

/// Permuting the states together with their initial values and identities changes no logit. With equal initial values
/// and identities all states stay equal.
#[test]
fn states_are_a_set_told_apart_by_their_identities() {
    for variant in VARIANTS.into_iter().flatten() {
        let model = build(config(Some(variant), 3, 4));
        let tokens = tokens(1, 12, 1);
        let (logits, _) = forward(&model, &tokens, &model.initial_state(1));
        let order = Tensor::from_slice(&[3i64, 1, 0, 2]);
        let state_parameters = |model: &LanguageModel| -> Vec<Tensor> {
            let named = model.params().named();
            let of_states = |name: &str| name.ends_with("initial_state") || name.ends_with("state_ids");
            named.into_iter().filter(|(name, _)| of_states(name)).map(|(_, p)| p).collect()
        };
        for parameter in state_parameters(&model) {
            parameter.detach().copy_(&parameter.index_select(0, &order));
        }
        let (permuted, _) = forward(&model, &tokens, &model.initial_state(1));
        assert!(difference(&permuted, &logits) < ROUNDING, "{variant:?}");

        for parameter in state_parameters(&model) {
            parameter.detach().copy_(&parameter.get(0).expand_as(&parameter).copy());
        }
        let (_, state) = forward(&model, &tokens, &model.initial_state(1));
        let states = state.layers[1].recurrent.as_ref().unwrap().get(0);
        assert!(difference(&states, &states.get(0).expand_as(&states)) < ROUNDING, "{variant:?}");
    }
}

/// A fixed gate that is wide open keeps the state as it is; one that is shut forgets it.
#[test]
fn a_fixed_gate_freezes_or_forgets() {
    use brt_lm::{CellLayout, Gate};
    let model = build(config(Some((Gate::Fixed, CellLayout::Skip)), 3, 4));
    let set_gate = |value: f64| {
        let gate = model.params().named().into_iter().find(|(name, _)| name.ends_with("gate_bias"));
        let _ = gate.unwrap().1.detach().fill_(value);
    };
    let recurrent = |state: &ModelState| state.layers[1].recurrent.as_ref().unwrap().copy();
    let initial = model.initial_state(1);
    set_gate(100.);
    let (_, frozen) = forward(&model, &tokens(1, 9, 1), &initial);
    assert_eq!(recurrent(&frozen), recurrent(&initial));
    set_gate(-100.);
    // One block: the next state is the update alone, whatever the gate's bias adds of the old state.
    let after = |state: &ModelState| recurrent(&forward(&model, &tokens(1, 3, 1), state).1);
    let forgotten = after(&initial);
    set_gate(0.);
    let half = after(&initial);
    let mean = (&forgotten + recurrent(&initial)) / 2.;
    assert!(difference(&half, &mean) < ROUNDING, "half of the update and half of the old state");
    assert!(difference(&forgotten, &recurrent(&initial)) > 0.1);
}

/// Detached blocks are Transformer-XL: a segment of three windows has the gradients of three segments of one window
/// with the caches as constants between them, and the same outputs as the sliding-window model.
#[test]
fn detached_blocks_are_transformer_xl() {
    let window_len = 3;
    let tokens = tokens(2, 3 * window_len, 5);
    let losses = |logits: &Tensor| logits.log_softmax(-1, Kind::Float).square().sum(Kind::Float);
    let gradients = |carry: Carry, segments: &[Tensor]| {
        let model = build(brt_lm::ModelConfig { carry, ..config(None, window_len, 1) });
        let mut state = model.initial_state(2);
        for segment in segments {
            let (logits, next) = model.forward(segment, &state, Mode::Eval);
            losses(&logits).backward(); // Gradients add up over the segments.
            state = next.detach();
        }
        model.params().named().into_iter().map(|(name, p)| (name, p.grad())).collect::<Vec<_>>()
    };
    let one_by_one = gradients(Carry::Differentiable, &tokens.split(window_len, 1));
    let at_once = gradients(Carry::Detached, &[tokens.shallow_clone()]);
    let sliding = gradients(Carry::Differentiable, &[tokens]);
    let mut sliding_differs = false;
    for (((name, a), (_, b)), (_, c)) in one_by_one.iter().zip(&at_once).zip(&sliding) {
        let size = a.abs().max().double_value(&[]);
        assert!(difference(a, b) <= 1e-5 * size, "{name}: {} of {size}", difference(a, b));
        sliding_differs |= difference(a, c) > 1e-3 * size;
    }
    assert!(sliding_differs, "gradients of the sliding-window model cross blocks");
}

/// Token by token equals segment by segment, from a carried state, whatever the batch.
#[test]
fn decoding_equals_training_forward() {
    for variant in VARIANTS {
        let model = build(config(variant, 3, 4));
        let (past, now) = (tokens(2, 6, 1), tokens(2, 12, 2));
        let (_, state) = forward(&model, &past, &model.initial_state(2));
        let (logits, _) = forward(&model, &now, &state);
        let mut decoder = Decoder::new(&model, state);
        for position in 0..12 {
            let got = decoder.step(&now.select(1, position));
            let error = difference(&got, &logits.select(1, position));
            assert!(error < ROUNDING, "{variant:?}: position {position}: {error}");
        }
    }
}

/// Feeding a prompt at once, in pieces, and token by token gives the same next logits.
#[test]
fn feeding_in_pieces_equals_feeding_at_once() {
    let model = build(config(VARIANTS[1], 4, 3));
    let prompt: Vec<i64> = tokens(1, 19, 1).get(0).try_into().unwrap();
    let at_once = Decoder::new(&model, model.initial_state(1)).feed(&prompt);
    let mut decoder = Decoder::new(&model, model.initial_state(1));
    let _ = decoder.feed(&prompt[..5]);
    let _ = decoder.feed(&prompt[5..6]);
    let in_pieces = decoder.feed(&prompt[6..]);
    assert!(difference(&at_once, &in_pieces) < ROUNDING);
}
