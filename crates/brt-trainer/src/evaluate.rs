//! Losses on whole held-out documents, state carried from segment to segment.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use brt_data::{DataError, EvaluationStream, SegmentBatch, Split, StreamConfig, TokenSet};
use brt_lm::{ConfigError, LanguageModel, ModelState};
use brt_report::{DocumentScore, Evaluation, PositionBucket, StateRule};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{EvaluationConfig, RunConfig, TrainError, World, trainer::BatchTensors};

/// First bucket of the losses by position: `0 .. 64`; each further one is as long as all before it together.
const FIRST_BUCKET_LEN: u64 = 64;

/// Held-out documents.
#[derive(Debug, Clone)]
pub struct HeldOut {
    /// The split that they are.
    pub split: Split,
    /// The documents.
    pub set: Arc<TokenSet>,
}

impl HeldOut {
    /// Opens a split of a prepared corpus.
    ///
    /// # Errors
    /// As [`TokenSet::open`].
    pub fn open(folder: &Path, split: Split) -> Result<Self, TrainError> {
        Ok(Self { split, set: Arc::new(TokenSet::open(folder, split)?) })
    }

    /// Checks that a configuration can score them.
    pub(crate) fn check(&self, config: &RunConfig) -> Result<(), TrainError> {
        EvaluationStream::new(Arc::clone(&self.set), stream(config, &World::alone()))?;
        Ok(())
    }
}

/// Returns the stream of this process's rows of held-out documents.
pub(crate) fn stream(config: &RunConfig, world: &World) -> StreamConfig {
    let EvaluationConfig { batch, max_document_len, .. } = config.evaluation;
    StreamConfig { batch, max_document_len, rank: world.share(), ..config.data.stream() }
}

/// Scores every document of a set once, in float32, or the first batches of them (`evaluation.num_batches`: the official
/// code scores 400).
///
/// # Errors
/// A set that the configuration cannot read; [`StateRule::ResetBlocks`] for a model whose tokens know their place in the
/// segment.
pub fn evaluate(
    model: &LanguageModel,
    held_out: &HeldOut,
    config: &RunConfig,
    state_rule: StateRule,
) -> Result<Evaluation, TrainError> {
    let never = AtomicBool::new(false);
    let world = World::alone();
    let evaluation = evaluate_until(&never, &world, model, held_out, config, state_rule)?;
    Ok(evaluation.expect("nobody stops it"))
}

/// As [`evaluate`], each process its rows and all the same result, but returns `None` soon after `stop` is set on any.
pub(crate) fn evaluate_until(
    stop: &AtomicBool,
    world: &World,
    model: &LanguageModel,
    HeldOut { split, set }: &HeldOut,
    config: &RunConfig,
    state_rule: StateRule,
) -> Result<Option<Evaluation>, TrainError> {
    let segment_len = config.model.segment_len;
    let fits = state_rule != StateRule::ResetBlocks || segment_len.is_none();
    let expected = "a model that reads block by block as it reads segments (without model.segment_len)";
    ConfigError::check("evaluation", "state", expected, segment_len.unwrap_or(0), fits)?;
    let num_batches = config.evaluation.num_batches.unwrap_or(usize::MAX);
    let stream = stream(config, world);
    let state = model.initial_state(stream.own_rows().len() as i64);
    let batches = EvaluationStream::new(Arc::clone(set), stream)?.take(num_batches);
    let Some((scores, _)) = score(stop, world, model, set, batches, (state, state_rule))? else {
        return Ok(None);
    };
    let scores = Scores::of_all(world, set, scores)?;
    Ok(Some(scores.evaluation(*split, state_rule, config)))
}

/// Scores batches of a set from a state on, as many on each process; returns this process's scores and the state after them,
/// or `None` soon after `stop` is set on any.
pub(crate) fn score(
    stop: &AtomicBool,
    world: &World,
    model: &LanguageModel,
    set: &Arc<TokenSet>,
    batches: impl Iterator<Item = Result<SegmentBatch, DataError>>,
    (mut state, rule): (ModelState, StateRule),
) -> Result<Option<(Scores, ModelState)>, TrainError> {
    let mut scores = Scores::new(set)?;
    for batch in batches {
        // With more processes than rows some have none.
        let scored = batch.map_err(TrainError::from).and_then(|batch| match batch.batch {
            0 => Ok(None),
            _ => tch::no_grad(|| scores.add(model, &batch, &state, rule)).map(Some),
        });
        // Nobody goes on alone, or waits longer than for a batch.
        let flags = [stop.load(Ordering::Relaxed), scored.is_err()].map(|flag| f64::from(u8::from(flag)));
        let [num_stopped, num_failed] = world.sum(flags)?;
        let scored = if num_failed > 0. { world.agree(scored)? } else { scored? };
        if num_stopped > 0. {
            return Ok(None);
        }
        state = scored.unwrap_or(state);
    }
    Ok(Some((scores, state)))
}

/// Sums of losses by document and by position.
pub(crate) struct Scores {
    set: Arc<TokenSet>,
    documents: Vec<DocumentScore>,
    by_position: Vec<PositionBucket>,
}

impl Scores {
    fn new(set: &Arc<TokenSet>) -> Result<Self, TrainError> {
        let document = |idx| {
            let document = set.document(idx)?;
            let (name, group) = (document.name.to_string(), document.group.to_string());
            Ok(DocumentScore { name, group, loss_nats: 0., num_tokens: 0, num_bytes: 0, num_words: 0 })
        };
        let documents = (0..set.num_documents()).map(document).collect::<Result<_, TrainError>>()?;
        Ok(Self { set: Arc::clone(set), documents, by_position: vec![] })
    }

    /// Returns the sums of what all processes have scored.
    pub(crate) fn of_all(world: &World, set: &Arc<TokenSet>, own: Self) -> Result<Self, TrainError> {
        if world.size() == 1 {
            return Ok(own);
        }
        let shares = world.exchange(Share::of(own))?;
        let mut sum = Self::new(set)?;
        for share in shares {
            for (idx, nats, [tokens, bytes, words]) in share.documents {
                let document = &mut sum.documents[idx];
                document.loss_nats += f64::from_bits(nats);
                document.num_tokens += tokens;
                document.num_bytes += bytes;
                document.num_words += words;
            }
            for (position, nats, tokens) in share.by_position {
                let bucket = bucket(&mut sum.by_position, position);
                bucket.loss_nats += f64::from_bits(nats);
                bucket.num_tokens += tokens;
            }
        }
        Ok(sum)
    }

    /// Returns what was scored as a record.
    pub(crate) fn evaluation(self, split: Split, state_rule: StateRule, config: &RunConfig) -> Evaluation {
        Evaluation {
            split: split.to_string(),
            state_rule,
            max_document_len: config.evaluation.max_document_len.unwrap_or(0) as u64,
            num_batches: config.evaluation.num_batches.unwrap_or(0) as u64,
            documents: self.documents,
            by_position: self.by_position,
        }
    }

    /// Scores a batch and returns the state after it.
    fn add(
        &mut self,
        model: &LanguageModel,
        batch: &SegmentBatch,
        state: &ModelState,
        rule: StateRule,
    ) -> Result<ModelState, TrainError> {
        let tensors = BatchTensors::new(batch, model.params().device());
        let before = model.reset_rows(state, &tensors.start_of_sequence);
        let targets = [&tensors.targets, &tensors.mask];
        let (nats, after) = match rule {
            StateRule::Carried => model.score(&tensors.tokens, targets, &before),
            StateRule::Reset => model.score(&tensors.tokens, targets, &model.reset_recurrent_states(&before)),
            StateRule::ResetBlocks => {
                let (mut nats, mut state) = (vec![], before);
                let blocks = |x: &Tensor| x.split(model.config().window_len, 1);
                let targets = targets.map(blocks);
                for (idx, block) in blocks(&tensors.tokens).iter().enumerate() {
                    let targets = [&targets[0][idx], &targets[1][idx]];
                    let (block_nats, after) =
                        model.score(block, targets, &model.reset_recurrent_states(&state));
                    nats.push(block_nats);
                    state = after;
                }
                (Tensor::cat(&nats, 1), state)
            }
        };
        self.add_losses(batch, &nats)?;
        Ok(after)
    }

    /// `nats`: `[B, N]`.
    fn add_losses(&mut self, batch: &SegmentBatch, nats: &Tensor) -> Result<(), TrainError> {
        let nats: Vec<f32> = nats.reshape(-1).try_into().expect("a vector of floats");
        for row in 0..batch.batch {
            let Some(document_idx) = batch.document_idx[row] else { continue };
            // The token that is predicted at position i is the one after it.
            let first = batch.start_token[row] + 1;
            let end = self.set.document(document_idx)?.tokens.len().min(first + batch.segment_len);
            let spans = self.set.spans(document_idx, first..end)?;
            let document = &mut self.documents[document_idx];
            for (i, span) in spans.into_iter().enumerate() {
                let at = row * batch.segment_len + i;
                if batch.loss_mask[at] == 0. {
                    continue;
                }
                let loss_nats = f64::from(nats[at]);
                document.loss_nats += loss_nats;
                document.num_tokens += 1;
                document.num_bytes += span.num_bytes;
                document.num_words += span.num_words;
                let bucket = bucket(&mut self.by_position, (first + i) as u64);
                bucket.loss_nats += loss_nats;
                bucket.num_tokens += 1;
            }
        }
        Ok(())
    }
}

/// What one process has scored, as it is sent to the others. Losses are bits of floats: JSON has none that are not finite.
#[derive(Debug, Serialize, Deserialize)]
struct Share {
    /// Index, loss in nats, and numbers of tokens, bytes and words of each document.
    documents: Vec<(usize, u64, [u64; 3])>,
    /// First position, loss in nats and number of tokens of each bucket.
    by_position: Vec<(u64, u64, u64)>,
}

impl Share {
    fn of(scores: Scores) -> Self {
        let document = |(idx, d): (usize, &DocumentScore)| {
            (idx, d.loss_nats.to_bits(), [d.num_tokens, d.num_bytes, d.num_words])
        };
        let documents = scores.documents.iter().enumerate().filter(|(_, d)| d.num_tokens > 0);
        let bucket = |b: &PositionBucket| (b.start_token, b.loss_nats.to_bits(), b.num_tokens);
        Self {
            documents: documents.map(document).collect(),
            by_position: scores.by_position.iter().map(bucket).collect(),
        }
    }
}

/// Returns the bucket of a position, and makes it and those before it where they are missing.
fn bucket(buckets: &mut Vec<PositionBucket>, position: u64) -> &mut PositionBucket {
    // 0 .. 64 is bucket 0, 64 .. 128 bucket 1, 128 .. 256 bucket 2, and so on.
    let idx = (position / FIRST_BUCKET_LEN).checked_ilog2().map_or(0, |log| log as usize + 1);
    while buckets.len() <= idx {
        let start_token = buckets.last().map_or(0, |last| last.end_token);
        let end_token = FIRST_BUCKET_LEN << buckets.len();
        buckets.push(PositionBucket { start_token, end_token, loss_nats: 0., num_tokens: 0 });
    }
    &mut buckets[idx]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double() {
        let mut buckets: Vec<PositionBucket> = vec![];
        for position in [1, 63, 64, 127, 128, 1000] {
            let bucket = bucket(&mut buckets, position);
            assert!((bucket.start_token..bucket.end_token).contains(&position), "{position}: {bucket:?}");
            bucket.num_tokens += 1;
        }
        let edges: Vec<_> = buckets.iter().map(|b| (b.start_token, b.end_token, b.num_tokens)).collect();
        assert_eq!(edges, [(0, 64, 2), (64, 128, 2), (128, 256, 1), (256, 512, 0), (512, 1024, 1)]);
    }
}
