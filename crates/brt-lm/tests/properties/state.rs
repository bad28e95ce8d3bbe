//! What state means: segments, rows, resets, states as a set.

use brt_lm::{Carry, CellLayout, Gate, Mode, ModelConfig, ModelState, PositionConfig};
use proptest::prelude::*;
use tch::{Kind, Tensor};

use crate::{
    CHANGE, Case, ROUNDING, any_case,
    common::{build_seeded, difference, plain, recurrent, tokens, with_recurrence},
    forward, recurrent_case, relative, sizes, state_difference,
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// Two segments with carried state equal one segment of both.
    #[test]
    fn a_text_may_be_cut_anywhere_between_blocks(case in any_case(), cut in any::<prop::sample::Index>()) {
        prop_assume!(case.is_stationary() && case.num_blocks > 1);
        let (model, text) = (case.model(), case.segment(0));
        let start = model.initial_state(case.batch);
        let (whole, end) = forward(&model, &text, &start);
        let len = case.config.window_len * (1 + cut.index(case.num_blocks as usize - 1) as i64);
        let (first, carried) = forward(&model, &text.narrow(1, 0, len), &start);
        let (second, carried_end) = forward(&model, &text.narrow(1, len, case.segment_len() - len), &carried);
        prop_assert!(relative(&Tensor::cat(&[first, second], 1), &whole) <= ROUNDING, "{}", case.name);
        prop_assert!(state_difference(&carried_end, &end) <= ROUNDING, "{}", case.name);
    }

    /// The whole stack window by window, or each layer over the whole segment: the same numbers and gradients.
    #[test]
    fn stack_windows_change_nothing(case in any_case(), windows in 1i64..=3) {
        prop_assume!(case.config.carry != Carry::Detached && !case.config.has_feedback());
        let text = case.segment(0);
        let run = |stack_window_len| {
            let model = build_seeded(ModelConfig { stack_window_len, ..case.config.clone() }, case.seed);
            let (logits, state) = model.forward(&text, &model.initial_state(case.batch), Mode::Eval);
            logits.square().mean(Kind::Float).backward();
            let gradient = |(name, p): (String, Tensor)| {
                let gradient = p.grad();
                (name, if gradient.defined() { gradient } else { p.zeros_like() })
            };
            let gradients: Vec<_> = model.params().named().into_iter().map(gradient).collect();
            (logits.detach(), state.detach(), gradients)
        };
        let (a, b) = (run(None), run(Some(windows * case.config.window_len)));
        prop_assert!(relative(&b.0, &a.0) <= ROUNDING, "{}", case.name);
        prop_assert!(state_difference(&b.1, &a.1) <= ROUNDING, "{}", case.name);
        for ((name, a), (_, b)) in a.2.iter().zip(&b.2) {
            prop_assert!(relative(b, a) <= 20. * ROUNDING, "{}: {name}", case.name);
        }
    }

    /// A row where a document starts equals a fresh model; the others go on.
    #[test]
    fn a_reset_row_equals_a_fresh_row(case in any_case(), rows in prop::collection::vec(any::<bool>(), 3)) {
        let model = case.model();
        let fresh = model.initial_state(case.batch);
        let (_, carried) = forward(&model, &case.segment(0), &fresh);
        let starts = Tensor::from_slice(&rows[..case.batch as usize]);
        let text = case.segment(1);
        let (got, _) = forward(&model, &text, &model.reset_rows(&carried, &starts));
        let (of_fresh, _) = forward(&model, &text, &fresh);
        let (of_carried, _) = forward(&model, &text, &carried);
        for row in 0..case.batch {
            let want = if rows[row as usize] { &of_fresh } else { &of_carried };
            prop_assert!(relative(&got.get(row), &want.get(row)) <= ROUNDING, "{} row {row}", case.name);
        }
        // Something is carried, but where nothing can be.
        if case.config.carry != Carry::None {
            prop_assert!(relative(&of_carried, &of_fresh) > CHANGE, "{}", case.name);
        }
    }

    /// The order of the rows does not matter.
    #[test]
    fn rows_are_independent(case in any_case()) {
        let (model, text) = (case.model(), case.segment(0));
        let order = Tensor::arange(case.batch, (Kind::Int64, tch::Device::Cpu)).flip([0]);
        let start = model.initial_state(case.batch);
        let (logits, _) = forward(&model, &text, &start);
        let (flipped, _) = forward(&model, &text.index_select(0, &order), &start);
        prop_assert!(relative(&flipped, &logits.index_select(0, &order)) <= ROUNDING, "{}", case.name);
    }

    /// Permuting the states together with their initial values and identities permutes the final states and changes no
    /// logit. With equal initial values and identities all states stay equal.
    #[test]
    fn states_are_a_set_told_apart_by_their_identities(case in recurrent_case()) {
        let (model, text) = (case.model(), case.segment(0));
        let num_states = case.config.recurrence.as_ref().map_or(0, |r| r.num_states);
        let recurrent_states = |state: &ModelState| -> Vec<Tensor> {
            state.layers.iter().filter_map(|layer| layer.recurrent.as_ref().map(Tensor::copy)).collect()
        };
        let state_parameters = || {
            let of_states = |name: &str| name.ends_with("initial_state") || name.ends_with("state_ids");
            model.params().named().into_iter().filter(move |(name, _)| of_states(name)).map(|(_, p)| p)
        };
        let (logits, end) = forward(&model, &text, &model.initial_state(case.batch));
        let order = Tensor::arange(num_states, (Kind::Int64, tch::Device::Cpu)).flip([0]);
        for parameter in state_parameters() {
            parameter.detach().copy_(&parameter.index_select(0, &order));
        }
        let (permuted, permuted_end) = forward(&model, &text, &model.initial_state(case.batch));
        prop_assert!(relative(&permuted, &logits) <= ROUNDING, "{}", case.name);
        for (a, b) in recurrent_states(&permuted_end).iter().zip(&recurrent_states(&end)) {
            prop_assert!(relative(a, &b.index_select(1, &order)) <= ROUNDING, "{}", case.name);
        }

        for parameter in state_parameters() {
            parameter.detach().copy_(&parameter.get(0).expand_as(&parameter).copy());
        }
        let (_, end) = forward(&model, &text, &model.initial_state(case.batch));
        for states in recurrent_states(&end) {
            let first = states.narrow(1, 0, 1).expand_as(&states);
            prop_assert!(relative(&states, &first) <= ROUNDING, "{}", case.name);
        }
    }

    /// A fixed gate that is wide open keeps the state as it is, so that tokens read the same memory in every block; one
    /// that is shut forgets it; one half open takes the mean.
    #[test]
    fn a_fixed_gate_freezes_or_forgets(
        sizes in sizes(),
        layout in prop::sample::select(vec![CellLayout::Skip, CellLayout::Single]),
    ) {
        let (window_len, num_states, _, batch, seed) = sizes;
        let config = recurrent(Gate::Fixed, layout, window_len, num_states);
        let model = build_seeded(config, seed);
        let gates = || model.params().named().into_iter().filter(|(name, _)| name.ends_with("gate_bias"));
        let state_after = |bias: f64, num_blocks: i64| {
            gates().for_each(|(_, gate)| { let _ = gate.detach().fill_(bias); });
            let text = tokens(batch, window_len * num_blocks, seed);
            let (_, state) = forward(&model, &text, &model.initial_state(batch));
            state.layers[1].recurrent.as_ref().map(Tensor::copy).ok_or(TestCaseError::fail("no state"))
        };
        let initial = model.initial_state(batch).layers.swap_remove(1).recurrent;
        let initial = initial.ok_or(TestCaseError::fail("no state"))?;
        prop_assert_eq!(state_after(100., 3)?, initial.copy());
        let forgotten = state_after(-100., 1)?;
        let mean = (&forgotten + &initial) / 2.;
        prop_assert!(relative(&state_after(0., 1)?, &mean) <= ROUNDING);
        prop_assert!(relative(&forgotten, &initial) > CHANGE);
    }

    /// With its state cleared a recurrent model forgets what came before the segment, but for its caches.
    #[test]
    fn a_cleared_state_lives_for_one_segment(sizes in sizes()) {
        let (window_len, num_states, num_blocks, batch, seed) = sizes;
        let segment_len = Some(window_len * num_blocks);
        let config = recurrent(Gate::Lstm, CellLayout::Dual, window_len, num_states);
        let clear = ModelConfig { segment_len, ..with_recurrence(config.clone(), |r| r.clear_state = true) };
        let (carrying, clearing) = (build_seeded(config.clone(), seed), build_seeded(clear, seed));
        let case = Case { name: String::new(), config, num_blocks, batch, seed };
        let (_, state) = forward(&carrying, &case.segment(0), &carrying.initial_state(batch));
        let text = case.segment(1);
        let (cleared, _) = forward(&clearing, &text, &state);
        let (by_hand, _) = forward(&carrying, &text, &carrying.reset_recurrent_states(&state));
        let (carried, _) = forward(&carrying, &text, &state);
        prop_assert!(relative(&cleared, &by_hand) <= ROUNDING);
        prop_assert!(relative(&cleared, &carried) > CHANGE);
    }

    /// Absolute positions start again with every segment: the same segment twice is not one segment of both.
    #[test]
    fn absolute_positions_restart(sizes in sizes()) {
        let (window_len, _, num_blocks, batch, seed) = sizes;
        let position = PositionConfig::Absolute { max_half_wavelength: 10_000. };
        let segment_len = window_len * num_blocks;
        let config = ModelConfig { position, segment_len: Some(segment_len), carry: Carry::None, ..plain(window_len) };
        let model = build_seeded(config, seed);
        let text = tokens(batch, segment_len, seed);
        let (first, state) = forward(&model, &text, &model.initial_state(batch));
        let (second, _) = forward(&model, &text, &state);
        prop_assert!(relative(&second, &first) <= ROUNDING); // Nothing is carried: position 0 again.
        let other = ModelConfig { position: PositionConfig::None {}, segment_len: None, ..model.config().clone() };
        let (without, _) = forward(&build_seeded(other, seed), &text, &state);
        prop_assert!(relative(&without, &first) > CHANGE);
    }
}

/// Detached blocks are Transformer-XL: a segment of three windows has the gradients of three segments of one window
/// with the caches as constants between them, and the same outputs as the sliding-window model.
#[test]
fn detached_blocks_are_transformer_xl() {
    let window_len = 3;
    let tokens = tokens(2, 3 * window_len, 5);
    let losses = |logits: &Tensor| logits.log_softmax(-1, Kind::Float).square().sum(Kind::Float);
    let gradients = |carry: Carry, stack_window_len: Option<i64>, segments: &[Tensor]| {
        let model = build_seeded(ModelConfig { carry, stack_window_len, ..plain(window_len) }, 3);
        let mut state = model.initial_state(2);
        for segment in segments {
            let (logits, next) = model.forward(segment, &state, Mode::Eval);
            losses(&logits).backward(); // Gradients add up over the segments.
            state = next.detach();
        }
        model.params().named().into_iter().map(|(name, p)| (name, p.grad())).collect::<Vec<_>>()
    };
    let one_by_one = gradients(Carry::Differentiable, None, &tokens.split(window_len, 1));
    let sliding = gradients(Carry::Differentiable, None, &[tokens.shallow_clone()]);
    for stack_window_len in [None, Some(window_len)] {
        let at_once = gradients(Carry::Detached, stack_window_len, &[tokens.shallow_clone()]);
        let mut sliding_differs = false;
        for (((name, a), (_, b)), (_, c)) in one_by_one.iter().zip(&at_once).zip(&sliding) {
            let size = a.abs().max().double_value(&[]);
            assert!(difference(a, b) <= 1e-5 * size, "{name}: {} of {size}", difference(a, b));
            sliding_differs |= difference(a, c) > 1e-3 * size;
        }
        assert!(sliding_differs, "gradients of the sliding-window model cross blocks");
    }
}
