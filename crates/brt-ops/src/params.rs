//! Named parameters of a model.
//!
//! Instead of tch's `VarStore`, which renames a repeated name and iterates in random order: here a repeated name is an
//! error, names are sorted, and initial values depend on names (see [`crate::init`]).

use std::{cell::RefCell, collections::BTreeMap, ops::Div};

use tch::{Device, Kind, Tensor};

use crate::init::Init;

/// All parameters of a model, by name.
#[derive(Debug)]
pub struct Params {
    values: Values,
    device: Device,
    by_name: RefCell<BTreeMap<String, Tensor>>,
}

/// Where the values of new parameters come from.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// They are drawn from this seed.
    Drawn { seed: u64 },
    /// They are all the same zero: shapes without memory.
    Outline,
}

impl Params {
    /// Returns an empty set whose parameters will be drawn from `seed` and live on `device`.
    pub fn new(seed: u64, device: Device) -> Self {
        Self { values: Values::Drawn { seed }, device, by_name: RefCell::default() }
    }

    /// Returns an empty set whose parameters will have shapes but neither values nor memory, to look at a model too
    /// large for this machine.
    pub fn outline() -> Self {
        Self { values: Values::Outline, device: Device::Cpu, by_name: RefCell::default() }
    }

    /// Returns the scope without prefix.
    pub fn root(&self) -> Scope<'_> {
        Scope { params: self, prefix: String::new() }
    }

    /// Returns all parameters sorted by name; the tensors share storage with the model.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        self.by_name.borrow().iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Returns the number of trained values.
    pub fn num_parameters(&self) -> u64 {
        self.by_name.borrow().values().map(|tensor| tensor.numel() as u64).sum()
    }

    /// Returns the device of all parameters.
    pub fn device(&self) -> Device {
        self.device
    }
}

/// A place in a model where parameters are named: `scope / "layers" / 3`.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    params: &'a Params,
    prefix: String,
}

impl Scope<'_> {
    /// Returns a new trained parameter `<prefix>.<name>`.
    ///
    /// # Panics
    /// Where the name is already taken.
    #[track_caller]
    pub fn param(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        let name = (self / name).prefix;
        let tensor = match self.params.values {
            Values::Drawn { seed } => {
                init.draw(seed, &name, shape, self.params.device).set_requires_grad(true)
            }
            Values::Outline => Tensor::zeros([1], (Kind::Float, Device::Cpu)).expand(shape, false),
        };
        let previous = self.params.by_name.borrow_mut().insert(name.clone(), tensor.shallow_clone());
        assert!(previous.is_none(), "{name}: expected a new parameter name, got one that is taken");
        tensor
    }
}

impl<'a, T: std::fmt::Display> Div<T> for &Scope<'a> {
    type Output = Scope<'a>;

    fn div(self, name: T) -> Scope<'a> {
        let prefix =
            if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        Scope { params: self.params, prefix }
    }
}

impl<'a, T: std::fmt::Display> Div<T> for Scope<'a> {
    type Output = Scope<'a>;

    fn div(self, name: T) -> Scope<'a> {
        &self / name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_in_sorted_order() {
        let params = Params::new(1, Device::Cpu);
        let layer = params.root() / "layers" / 10;
        let _ = layer.param("weight", &[2, 3], Init::Ones);
        let _ = (params.root() / "layers" / 2).param("weight", &[1], Init::Ones);
        let names: Vec<_> = params.named().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["layers.10.weight", "layers.2.weight"]);
        assert_eq!(params.num_parameters(), 7);
    }

    #[test]
    #[should_panic(expected = "a.weight: expected a new parameter name, got one that is taken")]
    fn a_name_is_taken_once() {
        let params = Params::new(1, Device::Cpu);
        for _ in 0..2 {
            let _ = (params.root() / "a").param("weight", &[1], Init::Ones);
        }
    }
}
