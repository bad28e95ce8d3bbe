//! The search for what is not finite.

use tch::{Kind, Tensor};

use crate::Model;

/// Returns whether all values of all states are finite: one number is read from the device.
pub(crate) fn are_finite<M: Model>(states: &[M::State]) -> bool {
    let tensors = named_states::<M>(states, "").map(|(_, tensor)| tensor);
    let sums: Vec<Tensor> =
        tensors.filter(Tensor::is_floating_point).map(|x| x.detach().sum(Kind::Double)).collect();
    sums.is_empty() || Tensor::stack(&sums, 0).sum(Kind::Double).double_value(&[]).is_finite()
}

/// Returns the tensors of states, named with their place.
pub(crate) fn named_states<M: Model>(
    states: &[M::State],
    place: &str,
) -> impl Iterator<Item = (String, Tensor)> {
    let named = states.iter().flat_map(M::state_tensors);
    named.map(move |(name, tensor)| (format!("{place} {name}"), tensor))
}

/// Returns the first of named tensors that has a value that is not finite, and the sum of its values.
pub(crate) fn first_not_finite(mut named: impl Iterator<Item = (String, Tensor)>) -> Option<(String, f64)> {
    named.find_map(|(name, tensor)| {
        let sum = tch::no_grad(|| tensor.sum(Kind::Double).double_value(&[]));
        (!sum.is_finite()).then_some((name, sum))
    })
}
