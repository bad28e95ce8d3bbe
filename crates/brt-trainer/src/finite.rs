//! Numbers of a step, and the search for what is not finite.

use tch::{Device, Kind, Tensor};

use crate::Model;

/// Returns the sum of all values of all states, which is finite where each of them is; `None` without states.
pub(crate) fn sum_of_states<M: Model>(states: &[M::State]) -> Option<Tensor> {
    let tensors = named_states::<M>(states, "").map(|(_, tensor)| tensor);
    let sums = tensors.filter(Tensor::is_floating_point).map(|x| x.detach().sum(Kind::Double));
    sums.reduce(|sum, other| sum + other)
}

/// Reads scalars, zero where there is none: together, since each time the device must come to an end.
pub(crate) fn read<const N: usize>(scalars: [Option<Tensor>; N]) -> [f64; N] {
    let Some(device) = scalars.iter().flatten().map(Tensor::device).next() else { return [0.; N] };
    let options = (Kind::Double, device);
    let scalars = scalars
        .map(|x| x.map_or_else(|| Tensor::zeros([], options), |x| x.to_device(device).to_kind(Kind::Double)));
    let numbers = tch::no_grad(|| Tensor::stack(&scalars, 0).to_device(Device::Cpu));
    std::array::from_fn(|i| numbers.double_value(&[i as i64]))
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
