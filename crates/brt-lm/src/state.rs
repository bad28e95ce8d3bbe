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
    /// Returns the state without history: the next segment's gradient stops here. Caches are copied: they are a part of
    /// what the whole segment has computed, which would live on with them.
    pub fn detach(&self) -> Self {
        let layer = |layer: &LayerState| LayerState {
            cache: layer.cache.map(|x| x.detach().copy()),
            ..layer.map(Tensor::detach)
        };
        Self { layers: self.layers.iter().map(layer).collect() }
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

    /// Returns the states of `num_parts` equal groups of rows, in their order; rows are the first axis of every tensor.
    ///
    /// # Panics
    /// Where `num_parts` does not divide the rows.
    pub fn split(&self, num_parts: usize) -> Vec<Self> {
        let part = |idx: usize| {
            self.map(|x| {
                let rows = x.size()[0];
                let num_parts = num_parts as i64;
                assert!(rows % num_parts == 0, "state: expected rows in {num_parts} equal parts, got {rows}");
                x.narrow(0, idx as i64 * (rows / num_parts), rows / num_parts)
            })
        };
        (0..num_parts).map(part).collect()
    }

    /// Returns the state of all rows of several, in their order: the opposite of [`Self::split`].
    pub fn join(parts: &[Self]) -> Self {
        let layer = |idx: usize| {
            let layers: Vec<&LayerState> = parts.iter().map(|part| &part.layers[idx]).collect();
            let join = |get: &dyn Fn(&LayerState) -> Option<&Tensor>| {
                let tensors: Option<Vec<&Tensor>> = layers.iter().map(|layer| get(layer)).collect();
                tensors.map(|tensors| Tensor::cat(&tensors, 0))
            };
            let memory = |get: &dyn Fn(&KnnMemory) -> &Tensor| {
                let tensors: Option<Vec<&Tensor>> =
                    layers.iter().map(|l| l.memory.as_ref().map(get)).collect();
                tensors.map(|tensors| Tensor::cat(&tensors, 0))
            };
            let [keys, values] = [join(&|l| Some(&l.cache.keys)), join(&|l| Some(&l.cache.values))];
            let stored = (memory(&|m| &m.keys), memory(&|m| &m.values), memory(&|m| &m.num_written));
            LayerState {
                cache: KvCache { keys: keys.expect("every layer"), values: values.expect("has a cache") },
                recurrent: join(&|l| l.recurrent.as_ref()),
                memory: match stored {
                    (Some(keys), Some(values), Some(num_written)) => {
                        Some(KnnMemory { keys, values, num_written })
                    }
                    _ => None,
                },
            }
        };
        let num_layers = parts.first().map_or(0, |part| part.layers.len());
        Self { layers: (0..num_layers).map(layer).collect() }
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
