//! From what a state reads to its next value.

use brt_lm::{CellLayout, Gate};

use super::{Matrix, NaiveModel, Projected, Vector, column, dot, sigmoid};

impl NaiveModel {
    /// The next value of state `s`.
    pub(super) fn update(
        &self,
        idx: usize,
        old: &Vector,
        states: &[Projected],
        s: usize,
        [keys, values]: [&Matrix; 2],
    ) -> Vector {
        let recurrence = self.config.recurrence.as_ref().expect("recurrence");
        let cell = format!("layers.{idx}.cell");
        let (k, v) = (column(states, |s| &s.key), column(states, |s| &s.value));
        let mut read = self.attend_all(&format!("{cell}.attention.temperature"), &states[s].query, &k, &v);
        let (k, v): (Vec<&Vector>, Vec<&Vector>) = (keys.iter().collect(), values.iter().collect());
        let cross = format!("{cell}.attention.cross_temperature");
        read.extend(self.attend_all(&cross, &states[s].cross_query, &k, &v));

        let after_attention = || {
            let z = self.linear(&format!("{cell}.attention_out"), &read);
            self.gate(&format!("{cell}.attention_gate"), recurrence.gate, old, &z, &read)
        };
        match recurrence.layout {
            CellLayout::Skip => after_attention(),
            CellLayout::Single => {
                let (hidden, z) = self.mlp(&format!("{cell}.ffn"), &read);
                let z: Vector = z.iter().map(|x| x.tanh()).collect();
                self.gate(&format!("{cell}.ffn_gate"), recurrence.gate, old, &z, &hidden)
            }
            CellLayout::Dual => {
                let s1 = after_attention();
                let (hidden, z) =
                    self.mlp(&format!("{cell}.ffn"), &self.norm(&format!("{cell}.ffn_norm.weight"), &s1));
                self.gate(&format!("{cell}.ffn_gate"), recurrence.gate, &s1, &z, &hidden)
            }
        }
    }

    fn gate(&self, name: &str, gate: Gate, old: &[f64], z: &[f64], hidden: &[f64]) -> Vector {
        let affine = |part: &str, e: usize, constant: f64| {
            let weight = &self.get(&format!("{name}.{part}.weight"))[e];
            sigmoid(dot(weight, hidden) + self.get(&format!("{name}.{part}.bias"))[0][e] + constant)
        };
        let next = |e: usize| match gate {
            Gate::Fixed => {
                let g = sigmoid(self.get(&format!("{name}.gate_bias"))[0][e]);
                g * old[e] + (1. - g) * z[e]
            }
            Gate::Lstm => affine("forget", e, 1.) * old[e] + affine("input", e, -1.) * z[e],
            Gate::Full => {
                let g = affine("full", e, 1.);
                g * old[e] + (1. - g) * z[e]
            }
        };
        (0..old.len()).map(next).collect()
    }
}
