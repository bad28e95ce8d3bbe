//! What tokens and states read: windows, the memory, states.

use brt_lm::PositionConfig;

use super::{Matrix, NaiveModel, Vector, dot, position, sigmoid, softmax_mean};

impl NaiveModel {
    /// What token `i` of the window reads from the tokens before it, and from the memory.
    pub(super) fn read_window(
        &self,
        idx: usize,
        query: &[f64],
        i: usize,
        [keys, values]: [&Matrix; 2],
        memory: &[(usize, Vector, Vector)],
    ) -> Vector {
        let (dim, num_heads) = (self.config.head_dim as usize, self.config.num_heads as usize);
        let offset = keys.len() - self.config.window_len as usize; // the window's own keys come last
        let has_memory = self.config.memory_layer() == Some(idx as i64);
        let plain = has_memory && self.config.memory.is_some_and(|m| !m.local_position);
        let mut read = vec![];
        for head in 0..num_heads {
            let part = |x: &[f64]| x[head * dim..(head + 1) * dim].to_vec();
            let temperature = self.temperature(&format!("layers.{idx}.attention.temperature"), head);
            let (mut logits, mut rows) = (vec![], vec![]);
            for j in 0..keys.len() {
                let distance = i as i64 + offset as i64 - j as i64;
                if !(1..=self.config.window_len).contains(&distance) {
                    continue;
                }
                let (mut q, mut k) = (part(query), part(&keys[j]));
                let mut bias = 0.;
                if !plain {
                    if let PositionConfig::Rotary { max_half_wavelength } = self.config.position {
                        q = position::rotate(&q, i as f64, max_half_wavelength);
                        k = position::rotate(&k, j as f64 - offset as f64, max_half_wavelength);
                    }
                    bias = self.position_bias(idx, head, (i + offset) as f64, j as f64);
                }
                logits.push(temperature * (dot(&q, &k) + bias));
                rows.push(&values[j][head * dim..(head + 1) * dim]);
            }
            let local = if rows.is_empty() { vec![0.; dim] } else { softmax_mean(&logits, &rows, dim) };
            if has_memory {
                let gate = sigmoid(self.get(&format!("layers.{idx}.memory.gate_bias"))[0][head]);
                let far = self.read_memory(&part(query), head, temperature, memory);
                read.extend(local.iter().zip(&far).map(|(l, f)| (1. - gate) * l + gate * f));
            } else {
                read.extend(local);
            }
        }
        read
    }

    /// The best key of each column of slots, and attention to those; a column without keys counts as a zero key.
    fn read_memory(
        &self,
        query: &[f64],
        head: usize,
        temperature: f64,
        memory: &[(usize, Vector, Vector)],
    ) -> Vector {
        let dim = self.config.head_dim as usize;
        let num_columns = self.config.memory.expect("a memory").num_neighbours as usize;
        let zeros = vec![0.; dim];
        let (mut logits, mut rows): (Vector, Vec<&[f64]>) = (vec![], vec![]);
        for column in 0..num_columns {
            let mut best: Option<(f64, &[f64])> = None;
            for (_, key, value) in memory.iter().filter(|(slot, ..)| slot % num_columns == column) {
                let score = dot(query, &key[head * dim..(head + 1) * dim]);
                if best.is_none_or(|(s, _)| score > s) {
                    best = Some((score, &value[head * dim..(head + 1) * dim]));
                }
            }
            let (score, value) = best.unwrap_or((0., &zeros));
            logits.push(temperature * score);
            rows.push(value);
        }
        softmax_mean(&logits, &rows, dim)
    }

    /// Attention to all keys, without position and mask.
    pub(super) fn attend_all(
        &self,
        temperature: &str,
        query: &[f64],
        keys: &[&Vector],
        values: &[&Vector],
    ) -> Vector {
        let (dim, num_heads) = (self.config.head_dim as usize, self.config.num_heads as usize);
        let mut read = vec![];
        for head in 0..num_heads {
            let range = head * dim..(head + 1) * dim;
            let a = self.temperature(temperature, head);
            let logits: Vector =
                keys.iter().map(|k| a * dot(&query[range.clone()], &k[range.clone()])).collect();
            let rows: Vec<&[f64]> = values.iter().map(|v| &v[range.clone()]).collect();
            read.extend(softmax_mean(&logits, &rows, dim));
        }
        read
    }
}
