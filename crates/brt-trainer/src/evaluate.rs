//! Losses on whole held-out documents, state carried from segment to segment.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use brt_data::{EvaluationStream, SegmentBatch, Split, StreamConfig, TokenSet};
use brt_lm::{LanguageModel, Mode, ModelState};
use brt_ops::loss;
use brt_report::{DocumentScore, Evaluation, PositionBucket, StateRule};
use tch::Tensor;

use crate::{RunConfig, TrainError, trainer::BatchTensors};

/// First bucket of the losses by position: `0 .. 64`; each further one is twice as long as all before it.
const FIRST_BUCKET_LEN: u64 = 64;

/// Scores every document of a set once.
///
/// # Errors
/// A set that the configuration cannot read.
pub fn evaluate(
    model: &LanguageModel,
    set: &Arc<TokenSet>,
    split: Split,
    config: &RunConfig,
    state_rule: StateRule,
) -> Result<Evaluation, TrainError> {
    let never = AtomicBool::new(false);
    let evaluation = evaluate_until(&never, model, set, split, config, state_rule)?;
    Ok(evaluation.expect("nobody stops it"))
}

/// As [`evaluate`], but returns `None` soon after `stop` is set.
pub(crate) fn evaluate_until(
    stop: &AtomicBool,
    model: &LanguageModel,
    set: &Arc<TokenSet>,
    split: Split,
    config: &RunConfig,
    state_rule: StateRule,
) -> Result<Option<Evaluation>, TrainError> {
    let max_document_len = config.evaluation.max_document_len;
    let stream = StreamConfig { batch: config.evaluation.batch, max_document_len, ..config.data.stream() };
    let mut scores = Scores::new(set);
    let mut state = model.initial_state(config.evaluation.batch as i64);
    for batch in EvaluationStream::new(Arc::clone(set), stream)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        state = tch::no_grad(|| scores.add(model, &batch, &state, state_rule));
    }
    Ok(Some(Evaluation {
        split: split.to_string(),
        state_rule,
        max_document_len: max_document_len.unwrap_or(0) as u64,
        documents: scores.documents,
        by_position: scores.by_position,
    }))
}

/// Sums of losses by document and by position.
struct Scores {
    documents: Vec<DocumentScore>,
    by_position: Vec<PositionBucket>,
}

impl Scores {
    fn new(set: &TokenSet) -> Self {
        let document = |idx| DocumentScore {
            name: set.document(idx).name.to_string(),
            loss_nats: 0.,
            num_tokens: 0,
            num_bytes: 0,
        };
        Self { documents: (0..set.num_documents()).map(document).collect(), by_position: vec![] }
    }

    /// Scores a batch and returns the state after it.
    fn add(
        &mut self,
        model: &LanguageModel,
        batch: &SegmentBatch,
        state: &ModelState,
        rule: StateRule,
    ) -> ModelState {
        let tensors = BatchTensors::new(batch, model.params().device());
        let before = model.reset_rows(state, &tensors.start_of_sequence);
        let before = match rule {
            StateRule::Carried => before,
            StateRule::Reset => model.reset_recurrent_states(&before),
        };
        let (logits, after) = model.forward(&tensors.tokens, &before, Mode::Eval);
        self.add_losses(batch, &loss::cross_entropy(&logits, &tensors.targets, &tensors.mask));
        after
    }

    /// `nats`: `[B, N]`.
    fn add_losses(&mut self, batch: &SegmentBatch, nats: &Tensor) {
        let nats: Vec<f32> = nats.reshape(-1).try_into().expect("a vector of floats");
        for row in 0..batch.batch {
            let Some(document_idx) = batch.document_idx[row] else { continue };
            let document = &mut self.documents[document_idx];
            for i in 0..batch.segment_len {
                let at = row * batch.segment_len + i;
                if batch.loss_mask[at] == 0. {
                    continue;
                }
                let loss_nats = f64::from(nats[at]);
                document.loss_nats += loss_nats;
                document.num_tokens += 1;
                document.num_bytes += 1; // Tokens are bytes.
                // The predicted token is the one after position i.
                let bucket = self.by_position.bucket((batch.start_token[row] + i + 1) as u64);
                bucket.loss_nats += loss_nats;
                bucket.num_tokens += 1;
            }
        }
    }
}

trait Buckets {
    /// Returns the bucket of a position, and makes it and those before it where they are missing.
    fn bucket(&mut self, position: u64) -> &mut PositionBucket;
}

impl Buckets for Vec<PositionBucket> {
    fn bucket(&mut self, position: u64) -> &mut PositionBucket {
        // 0 .. 64 is bucket 0, 64 .. 128 bucket 1, 128 .. 256 bucket 2, and so on.
        let idx = (position / FIRST_BUCKET_LEN).checked_ilog2().map_or(0, |log| log as usize + 1);
        while self.len() <= idx {
            let start_token = self.last().map_or(0, |last| last.end_token);
            let end_token = FIRST_BUCKET_LEN << self.len();
            self.push(PositionBucket { start_token, end_token, loss_nats: 0., num_tokens: 0 });
        }
        &mut self[idx]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double() {
        let mut buckets: Vec<PositionBucket> = vec![];
        for position in [1, 63, 64, 127, 128, 1000] {
            let bucket = buckets.bucket(position);
            assert!((bucket.start_token..bucket.end_token).contains(&position), "{position}: {bucket:?}");
            bucket.num_tokens += 1;
        }
        let edges: Vec<_> = buckets.iter().map(|b| (b.start_token, b.end_token, b.num_tokens)).collect();
        assert_eq!(edges, [(0, 64, 2), (64, 128, 2), (128, 256, 1), (256, 512, 0), (512, 1024, 1)]);
    }
}
