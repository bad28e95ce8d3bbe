//! What a model remembers between segments, as a value.

use brt_txl::{KnnMemory, KvCache};
use tch::Tensor;

/// What one layer remembers.
#[derive(Debug)]
pub struct LayerState {
    /// Keys and values of the last block.
    pub cache: KvCache,
    /// Recurrent state `[B, S, E]`; `None` in ordinary layers.
    pub recurrent: Option<Tensor>,
    /// Keys and values of all blocks so far; `None` but in a layer with a memory.
    pub memory: Option<KnnMemory>,
}

impl LayerState {
    /// Returns the state of an ordinary layer.
    pub fn of_cache(cache: KvCache) -> Self {
        Self { cache, recurrent: None, memory: None }
    }

    /// Returns a state made of `f` of every tensor.
    pub fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Self {
        Self {
            cache: self.cache.map(&f),
            recurrent: self.recurrent.as_ref().map(&f),
            memory: self.memory.as_ref().map(|memory| memory.map(&f)),
        }
    }
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

    /// Returns the state with keys and values that no gradient reaches; recurrent states keep theirs.
    pub(crate) fn detach_caches(self) -> Self {
        let layer = |layer: LayerState| LayerState { cache: layer.cache.map(Tensor::detach), ..layer };
        Self { layers: self.layers.into_iter().map(layer).collect() }
    }

    /// Returns a state made of `f` of every tensor.
    pub fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Self {
        Self { layers: self.layers.iter().map(|layer| layer.map(&f)).collect() }
    }

    /// Returns all tensors with names, for a file: `layers.3.recurrent`.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let mut named = vec![];
        for (idx, layer) in self.layers.iter().enumerate() {
            let memory = layer.memory.as_ref();
            let tensors = [
                ("keys", Some(&layer.cache.keys)),
                ("values", Some(&layer.cache.values)),
                ("recurrent", layer.recurrent.as_ref()),
                ("memory.keys", memory.map(|m| &m.keys)),
                ("memory.values", memory.map(|m| &m.values)),
                ("memory.num_written", memory.map(|m| &m.num_written)),
            ];
            for (name, tensor) in tensors {
                named.extend(tensor.map(|t| (format!("layers.{idx}.{name}"), t.shallow_clone())));
            }
        }
        named
    }
}
