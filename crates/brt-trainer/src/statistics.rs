//! What the recurrent layers do on held-out text: gates, states and attention as numbers by name.

use std::{collections::BTreeMap, sync::Arc};

use brt_data::EvaluationStream;
use brt_lm::{LanguageModel, Mode};
use brt_ops::probe;

use crate::{HeldOut, RunConfig, TrainError, evaluate::stream, trainer::BatchTensors};

/// Number of segments that are read before one is looked at: the states have left their beginning.
const NUM_SEGMENTS_BEFORE: usize = 4;

/// Returns statistics of the fifth segment of each row of held-out documents (the last one of shorter documents), in
/// float32:
///
/// * `layers.L.cell.…openness.{mean,q05,q50,q95}`: how far gates are open to the update, over states, features and blocks,
/// * `layers.L.cell.{state_norm,update_norm}`: length of a state vector, and of its change in a block,
/// * `layers.L.{tokens_to_tokens,tokens_to_states,…}.entropy`: of rows of attention, in nats,
/// * `layers.L.state_share`: share of the states in the length of what tokens read.
pub(crate) fn statistics(
    model: &LanguageModel,
    held_out: &HeldOut,
    config: &RunConfig,
) -> Result<BTreeMap<String, f64>, TrainError> {
    let mut state = model.initial_state(config.evaluation.batch as i64);
    let mut statistics = BTreeMap::new();
    let batches = EvaluationStream::new(Arc::clone(&held_out.set), stream(config))?;
    for batch in batches.take(NUM_SEGMENTS_BEFORE + 1) {
        let tensors = BatchTensors::new(&batch?, model.params().device());
        let read = || {
            let before = model.reset_rows(&state, &tensors.start_of_sequence);
            model.forward(&tensors.tokens, &before, Mode::Eval).1
        };
        (state, statistics) = tch::no_grad(|| probe::observe(read));
    }
    Ok(statistics)
}
