//! Who can see whom.

use brt_lm::{Carry, ModelConfig};
use proptest::prelude::*;
use tch::Tensor;

use crate::{
    CHANGE, Case, ROUNDING, any_case, changed_at,
    common::{difference, plain},
    forward, recurrent_case, sizes,
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// A token never changes an earlier logit, nor those of other rows; it changes its own through the residual stream.
    #[test]
    fn nothing_sees_the_future(case in any_case(), at in any::<prop::sample::Index>()) {
        let (model, before) = (case.model(), case.segment(0));
        let position = at.index(case.segment_len() as usize) as i64;
        let start = model.initial_state(case.batch);
        let (logits, _) = forward(&model, &before, &start);
        let (changed, _) = forward(&model, &changed_at(&before, position), &start);
        let size = logits.abs().max().double_value(&[]);
        if position > 0 {
            let past = |x: &Tensor| x.get(0).narrow(0, 0, position);
            prop_assert!(difference(&past(&changed), &past(&logits)) <= ROUNDING * size, "{}", case.name);
        }
        if case.batch > 1 {
            let others = |x: &Tensor| x.narrow(0, 1, case.batch - 1);
            prop_assert!(difference(&others(&changed), &others(&logits)) <= ROUNDING * size, "{}", case.name);
        }
        let own = |x: &Tensor| x.get(0).get(position);
        prop_assert!(difference(&own(&changed), &own(&logits)) > CHANGE * size, "{}", case.name);
    }

    /// Attention alone reaches L·W tokens, or the end of the window where nothing is carried.
    #[test]
    fn attention_reaches_its_windows(sizes in sizes(), carry in prop::sample::select(vec![
        Carry::Differentiable, Carry::Detached, Carry::None,
    ])) {
        let (window_len, _, _, batch, seed) = sizes;
        let config = ModelConfig { carry, ..plain(window_len) };
        let reach = if carry == Carry::None { window_len - 1 } else { config.num_layers * window_len };
        let num_blocks = reach / window_len + 2;
        let case = Case { name: format!("{carry:?}"), config, num_blocks, batch, seed };
        let (model, before) = (case.model(), case.segment(0));
        let run = |tokens: &Tensor| forward(&model, tokens, &model.initial_state(batch)).0.get(0);
        let (a, b) = (run(&before), run(&changed_at(&before, 0)));
        let from = |x: &Tensor, start: i64| x.narrow(0, start, case.segment_len() - start);
        let size = a.abs().max().double_value(&[]);
        prop_assert!(difference(&from(&a, reach + 1), &from(&b, reach + 1)) <= ROUNDING * size);
    }

    /// A recurrent state carries a change beyond what attention reaches: to the last block.
    #[test]
    fn recurrence_reaches_further(case in recurrent_case()) {
        let num_blocks = case.config.num_layers + 3;
        let window_len = case.config.window_len;
        let segment_len = case.config.segment_len.map(|_| window_len * num_blocks);
        let config = ModelConfig { segment_len, ..case.config.clone() };
        let case = Case { config, num_blocks, ..case };
        let (model, before) = (case.model(), case.segment(0));
        let run = |tokens: &Tensor| forward(&model, tokens, &model.initial_state(case.batch)).0.get(0);
        let last = |x: &Tensor| x.narrow(0, case.segment_len() - window_len, window_len);
        let change = difference(&last(&run(&changed_at(&before, 0))), &last(&run(&before)));
        prop_assert!(change > 0., "{}", case.name);
    }
}
