//! What can be trained.

use brt_native::Segments;
use tch::Tensor;

/// What can be trained: named parameters, and a loss of a batch that may carry a state to the next one.
pub trait Model {
    /// What one step reads.
    type Batch;
    /// What is carried from one batch to the next: `()` for a model without memory.
    type State;

    /// Returns the parameters by name; they share storage with the model.
    fn parameters(&self) -> Vec<(String, Tensor)>;

    /// Returns the number of predictions that a batch scores, by which its loss is divided.
    fn num_scored(batch: &Self::Batch) -> u64;

    /// Returns the sum of the losses of a batch in nats, a scalar with a graph, and the state after it. Parts of the model
    /// may be computed again in the backward pass, to save memory: they are given to `segments`.
    fn loss<'env>(
        &'env self,
        batch: &Self::Batch,
        before: &Self::State,
        segments: &Segments<'env>,
    ) -> (Tensor, Self::State);

    /// Returns a state without its graph.
    fn detach(state: &Self::State) -> Self::State;

    /// Returns the state after a batch whose step is left out: the one before it, but for texts that begin in the batch.
    fn skip(&self, _batch: &Self::Batch, before: &Self::State) -> Self::State {
        Self::detach(before)
    }

    /// Returns the tensors of a state with names, for the search of what is not finite.
    fn state_tensors(state: &Self::State) -> Vec<(String, Tensor)>;
}
