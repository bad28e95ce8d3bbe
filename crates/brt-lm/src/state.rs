//! What a model remembers between segments, as a value.

use brt_txl::KvCache;
use tch::Tensor;

/// What one layer remembers.
#[derive(Debug)]
pub struct LayerState {
    /// Keys and values of the last block.
    pub cache: KvCache,
    /// Recurrent state `[B, S, E]`; `None` in ordinary layers.
    pub recurrent: Option<Tensor>,
}

/// What a model remembers: one entry for each layer, from the bottom.
#[derive(Debug)]
pub struct ModelState {
    /// States of the layers.
    pub layers: Vec<LayerState>,
}

impl ModelState {
    /// Returns the state without history: the next segment's gradient stops here.
    pub fn detach(&self) -> Self {
        self.map(Tensor::detach)
    }

    /// Returns a state made of `f` of every tensor.
    pub fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Self {
        let layer = |layer: &LayerState| LayerState {
            cache: layer.cache.map(&f),
            recurrent: layer.recurrent.as_ref().map(&f),
        };
        Self { layers: self.layers.iter().map(layer).collect() }
    }

    /// Returns all tensors with names, for a file: `layers.3.recurrent`.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let mut named = vec![];
        for (idx, layer) in self.layers.iter().enumerate() {
            let tensors = [
                ("keys", Some(&layer.cache.keys)),
                ("values", Some(&layer.cache.values)),
                ("recurrent", layer.recurrent.as_ref()),
            ];
            for (name, tensor) in tensors {
                named.extend(tensor.map(|t| (format!("layers.{idx}.{name}"), t.shallow_clone())));
            }
        }
        named
    }
}
