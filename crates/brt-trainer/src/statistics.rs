//! What the recurrent layers do on held-out text: gates, states and attention as numbers by name.

use std::{collections::BTreeMap, sync::Arc};

use brt_data::{EvaluationStream, SegmentBatch, StreamConfig};
use brt_lm::{LanguageModel, Mode};
use brt_ops::probe;

use crate::{HeldOut, RunConfig, TrainError, World, evaluate::stream, trainer::BatchTensors};

/// Number of segments that are read before one is looked at: the states have left their beginning.
const NUM_SEGMENTS_BEFORE: usize = 4;

/// Returns statistics of the fifth segment of held-out documents side by side, or the last one in which each row has a
/// document, in float32:
///
/// * `layers.L.cell.[attention_gate.|ffn_gate.]openness.{mean,q05,q50,q95}`: how far gates are open to the update, over
///   states and features, mean over blocks; of LSTM gates also `forgetting`,
/// * `layers.L.cell.block_T.{state_norm,update_norm}`: mean length of a state vector after block T, and of its change in it,
/// * `layers.L.{tokens_to_tokens,tokens_to_states,…}.entropy`: of rows of attention, in nats,
/// * `layers.L.state_share`: share of the states in the length of what tokens read. (Tokens and states have a softmax each,
///   so there is no common mass of attention to divide.)
pub(crate) fn statistics(
    model: &LanguageModel,
    held_out: &HeldOut,
    config: &RunConfig,
) -> Result<BTreeMap<String, f64>, TrainError> {
    let config = StreamConfig {
        batch: config.evaluation.batch.min(held_out.set.num_documents()),
        ..stream(config, &World::alone())
    };
    let batches = EvaluationStream::new(Arc::clone(&held_out.set), config)?.take(NUM_SEGMENTS_BEFORE + 1);
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    let is_full = |batch: &&SegmentBatch| batch.document_idx.iter().all(Option::is_some);
    let batches: Vec<&SegmentBatch> = batches.iter().take_while(is_full).collect();
    let mut state = model.initial_state(config.batch as i64);
    let mut statistics = BTreeMap::new();
    for (idx, batch) in batches.iter().enumerate() {
        let tensors = BatchTensors::new(batch, model.params().device());
        let read = || {
            let before = model.reset_rows(&state, &tensors.start_of_sequence);
            model.forward(&tensors.tokens, &before, Mode::Eval).1
        };
        let is_last = idx + 1 == batches.len();
        (state, statistics) =
            tch::no_grad(|| if is_last { probe::observe(read) } else { (read(), BTreeMap::new()) });
    }
    Ok(statistics)
}
