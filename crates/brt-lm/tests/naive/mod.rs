//! A language model in plain loops over tokens, in float64: the referee. It shares nothing with the library but its
//! parameters and its configuration, and is written after the formulas, not after the library.

mod attention;
mod cell;
mod position;

use std::collections::HashMap;

use brt_lm::{
    Carry, LanguageModel, LogitDivisor, ModelConfig, ModelState, PositionConfig, QkNorm, Temperature,
};
use tch::{Kind, Tensor};

pub(crate) type Vector = Vec<f64>;
pub(crate) type Matrix = Vec<Vector>;

/// Parameters by name, as matrices; vectors are matrices of one row.
#[derive(Clone)]
pub(crate) struct NaiveModel {
    config: ModelConfig,
    pub(crate) parameters: HashMap<String, Matrix>,
    /// The orthogonal basis at distances 0 to W, where positions are of that kind.
    basis: Matrix,
}

/// What one layer of one row remembers.
#[derive(Clone)]
pub(crate) struct NaiveLayerState {
    /// Keys and values of the last window, one row of H·D for each token.
    pub(crate) keys: Matrix,
    pub(crate) values: Matrix,
    pub(crate) states: Matrix,
    /// Every key and value since the document began, with the slot that it was written to.
    pub(crate) memory: Vec<(usize, Vector, Vector)>,
}

/// Keys, values and queries of one token or state, not yet cut into heads.
struct Projected {
    key: Vector,
    value: Vector,
    query: Vector,
    cross_query: Vector,
}

pub(crate) fn matrix(x: &Tensor) -> Matrix {
    let columns = x.size().last().copied().unwrap_or(1);
    x.detach().reshape([-1, columns]).to_kind(Kind::Double).try_into().expect("a matrix")
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn add(a: &[f64], b: &[f64]) -> Vector {
    a.iter().zip(b).map(|(x, y)| x + y).collect()
}

fn sigmoid(x: f64) -> f64 {
    1. / (1. + (-x).exp())
}

/// Weighted mean of rows with weights `softmax(logits)`; zeros where there is none.
fn softmax_mean(logits: &[f64], rows: &[&[f64]], width: usize) -> Vector {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vector = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut mean = vec![0.; width];
    for (weight, row) in weights.iter().zip(rows) {
        for (m, x) in mean.iter_mut().zip(*row) {
            *m += weight / total * x;
        }
    }
    mean
}

impl NaiveModel {
    pub(crate) fn new(model: &LanguageModel) -> Self {
        let named = model.params().named();
        let parameters = named.iter().map(|(name, parameter)| (name.clone(), matrix(parameter))).collect();
        let config = model.config().clone();
        let basis = match config.position {
            PositionConfig::Orthogonal { num_functions, last_shift } => (0..=config.window_len)
                .map(|d| position::gram_schmidt(num_functions as usize, last_shift, d as f64))
                .collect(),
            _ => vec![],
        };
        Self { config, parameters, basis }
    }

    /// Returns the logits of one row's tokens and the state after them.
    pub(crate) fn run(&self, tokens: &[i64], states: &[NaiveLayerState]) -> (Matrix, Vec<NaiveLayerState>) {
        let window_len = self.config.window_len as usize;
        let mut states = states.to_vec();
        if self.config.recurrence.as_ref().is_some_and(|r| r.clear_state) {
            for idx in self.config.recurrent_layers() {
                states[idx as usize].states = self.get(&format!("layers.{idx}.cell.initial_state")).clone();
            }
        }
        let mut logits = vec![];
        for (block, window) in tokens.chunks(window_len).enumerate() {
            logits.extend(self.window(window, block * window_len, &mut states));
        }
        (logits, states)
    }

    /// One window through the whole stack, whatever the order in which the library goes.
    fn window(&self, tokens: &[i64], start: usize, states: &mut [NaiveLayerState]) -> Matrix {
        let embedding = self.get("embedding.weight");
        let mut xs: Matrix = tokens.iter().map(|&token| embedding[token as usize].clone()).collect();
        if let PositionConfig::Absolute { max_half_wavelength } = self.config.position {
            for (i, x) in xs.iter_mut().enumerate() {
                *x = add(x, &position::encoding((start + i) as f64, x.len(), max_half_wavelength));
            }
        }
        let topmost = self.config.recurrent_layers().last().copied();
        let feedback = topmost.filter(|_| self.config.has_feedback());
        let feedback = feedback.map(|idx| self.project_states(idx as usize, &states[idx as usize].states));
        for (idx, state) in states.iter_mut().enumerate() {
            xs = self.layer(idx, &xs, state, feedback.as_deref());
        }
        let divisor = match self.config.logit_divisor {
            LogitDivisor::SqrtVocabSize => self.config.vocab_size,
            LogitDivisor::SqrtModelDim => self.config.model_dim,
        };
        let logits = |x: &Vector| {
            let x = self.norm("final_norm.weight", x);
            embedding.iter().map(|row| dot(row, &x) / (divisor as f64).sqrt()).collect()
        };
        xs.iter().map(logits).collect()
    }

    fn layer(
        &self,
        idx: usize,
        xs: &Matrix,
        state: &mut NaiveLayerState,
        feedback: Option<&[Projected]>,
    ) -> Matrix {
        let name = format!("layers.{idx}");
        let tokens: Vec<Projected> = xs.iter().map(|x| self.project(&name, x, None)).collect();
        let mut keys = state.keys.clone();
        let mut values = state.values.clone();
        keys.extend(tokens.iter().map(|t| t.key.clone()));
        values.extend(tokens.iter().map(|t| t.value.clone()));

        let is_recurrent = self.config.recurrent_layers().contains(&(idx as i64));
        let own = is_recurrent.then(|| self.project_states(idx, &state.states));
        let readable = own.as_deref().or(feedback);
        let ys = (0..xs.len()).map(|i| {
            let mut read = self.read_window(idx, &tokens[i].query, i, [&keys, &values], &state.memory);
            if let Some(states) = readable {
                let (k, v) = (column(states, |s| &s.key), column(states, |s| &s.value));
                let temperature = format!("{name}.attention.cross_temperature");
                read.extend(self.attend_all(&temperature, &tokens[i].cross_query, &k, &v));
            }
            let x1 = add(&xs[i], &self.linear(&format!("{name}.attention_out"), &read));
            let (_, z) =
                self.mlp(&format!("{name}.ffn"), &self.norm(&format!("{name}.ffn_norm.weight"), &x1));
            add(&x1, &z)
        });
        let ys: Matrix = ys.collect();

        if let Some(own) = own {
            let update = |s: usize| self.update(idx, &state.states[s], &own, s, [&keys, &values]);
            state.states = (0..own.len()).map(update).collect();
        }
        self.remember(idx, &tokens, state);
        ys
    }

    /// Keeps the window's keys and values for the next one, and for ever where there is a memory.
    fn remember(&self, idx: usize, tokens: &[Projected], state: &mut NaiveLayerState) {
        if self.config.carry != Carry::None {
            state.keys = tokens.iter().map(|t| t.key.clone()).collect();
            state.values = tokens.iter().map(|t| t.value.clone()).collect();
        }
        if self.config.memory_layer() == Some(idx as i64) {
            let capacity = self.config.memory.expect("a memory").capacity as usize;
            for token in tokens {
                let slot = state.memory.last().map_or(0, |(slot, ..)| (slot + 1) % capacity);
                state.memory.retain(|(taken, ..)| *taken != slot);
                state.memory.push((slot, token.key.clone(), token.value.clone()));
            }
        }
    }

    fn project_states(&self, idx: usize, states: &Matrix) -> Vec<Projected> {
        let name = format!("layers.{idx}.cell");
        let ids = self.get(&format!("{name}.attention.state_ids"));
        states.iter().zip(ids).map(|(state, id)| self.project(&name, state, Some(id))).collect()
    }

    fn project(&self, name: &str, x: &[f64], id: Option<&Vector>) -> Projected {
        let mut u = self.norm(&format!("{name}.attention.norm.weight"), x);
        if let Some(id) = id {
            u = add(&u, id);
        }
        let linear = |part: &str| self.linear(&format!("{name}.attention.{part}"), &u);
        let has_cross = self.parameters.contains_key(&format!("{name}.attention.cross_query.weight"));
        Projected {
            key: self.unit_heads(linear("key"), false),
            value: linear("value"),
            query: self.unit_heads(linear("query"), true),
            cross_query: if has_cross { self.unit_heads(linear("cross_query"), true) } else { vec![] },
        }
    }

    /// Makes every head a unit vector, or divides queries by √D.
    fn unit_heads(&self, x: Vector, is_query: bool) -> Vector {
        let dim = self.config.head_dim as usize;
        let head = |h: &[f64]| -> Vector {
            let divisor = match self.config.qk_norm {
                QkNorm::Unit => (dot(h, h) + 1e-6).sqrt(),
                QkNorm::None if is_query => (dim as f64).sqrt(),
                QkNorm::None => 1.,
            };
            h.iter().map(|x| x / divisor).collect()
        };
        x.chunks(dim).flat_map(head).collect()
    }

    fn temperature(&self, name: &str, head: usize) -> f64 {
        match (self.config.qk_norm, self.config.temperature) {
            (QkNorm::None, _) => 1.,
            (QkNorm::Unit, Temperature::Raw) => self.get(name)[0][head],
            (QkNorm::Unit, Temperature::Absolute) => self.get(name)[0][head].abs(),
        }
    }

    fn mlp(&self, name: &str, x: &[f64]) -> (Vector, Vector) {
        let hidden: Vector = self.linear(&format!("{name}.hidden"), x).iter().map(|h| h.max(0.)).collect();
        let out = self.linear(&format!("{name}.out"), &hidden);
        (hidden, out)
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vector {
        self.get(&format!("{name}.weight")).iter().map(|row| dot(row, x)).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vector {
        let scale = 1. / (dot(x, x) / x.len() as f64 + 1e-6).sqrt();
        x.iter().zip(&self.get(name)[0]).map(|(x, gain)| x * scale * gain).collect()
    }

    pub(crate) fn get(&self, name: &str) -> &Matrix {
        self.parameters.get(name).unwrap_or_else(|| panic!("no parameter {name}"))
    }

    /// Takes one row's state from the library's.
    pub(crate) fn state_of(&self, state: &ModelState, row: i64) -> Vec<NaiveLayerState> {
        let layer = |layer: &brt_lm::LayerState| {
            let by_token = |x: &Tensor| matrix(&x.get(row).transpose(0, 1).flatten(1, 2)); // [H, W, D] → [W, HD]
            let is_empty = layer.cache.keys.size()[2] == 0;
            let cache = |x: &Tensor| if is_empty { vec![] } else { by_token(x) };
            let mut memory = vec![];
            if let Some(store) = &layer.memory {
                let capacity = store.keys.size()[2];
                let num_written = store.num_written.int64_value(&[row]);
                let (keys, values) = (by_token(&store.keys), by_token(&store.values));
                for token in (num_written - capacity).max(0)..num_written {
                    let slot = (token % capacity) as usize;
                    memory.push((slot, keys[slot].clone(), values[slot].clone()));
                }
            }
            NaiveLayerState {
                keys: cache(&layer.cache.keys),
                values: cache(&layer.cache.values),
                states: layer.recurrent.as_ref().map_or(vec![], |r| matrix(&r.get(row))),
                memory,
            }
        };
        state.layers.iter().map(layer).collect()
    }
}

/// Returns one field of every projection.
fn column<'a>(projected: &'a [Projected], field: impl Fn(&'a Projected) -> &'a Vector) -> Vec<&'a Vector> {
    projected.iter().map(field).collect()
}
