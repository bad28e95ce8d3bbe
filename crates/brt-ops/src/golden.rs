//! Golden files: numbers of the official code, with a tolerance for each. Used by tests.
//!
//! A case is a pair `NAME.safetensors` and `NAME.json`; the JSON gives, for each output, the largest difference that
//! float32 rounding explains. Every output that a test does not ask for is reported by [`Golden::finish`], so that no
//! number is left unchecked silently.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::{checkpoint, params::Params};

/// One golden case.
#[derive(Debug)]
pub struct Golden {
    name: String,
    tensors: BTreeMap<String, Tensor>,
    tolerances: HashMap<String, f64>,
    config: Value,
    unchecked: RefCell<BTreeSet<String>>,
}

impl Golden {
    /// Reads the case `name` of a folder.
    ///
    /// # Panics
    /// Where the files are missing or damaged.
    pub fn open(folder: &Path, name: &str) -> Self {
        let json = std::fs::read(folder.join(name).with_extension("json")).expect("a golden sidecar");
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        let path = folder.join(name).with_extension("safetensors");
        let tensors = checkpoint::load(&path, Device::Cpu).expect("golden tensors");
        let entries = json["tensors"].as_array().expect("a list of tensors");
        let name_of = |entry: &Value| entry["name"].as_str().expect("a name").to_string();
        let tolerances =
            entries.iter().filter_map(|e| Some((name_of(e), e["tol"].as_f64()?))).collect::<HashMap<_, _>>();
        let roles: HashMap<_, _> = entries.iter().map(|e| (name_of(e), e["role"].as_str())).collect();
        let is_output = |name: &&String| {
            let output = matches!(roles[*name], Some("output" | "state" | "debug" | "grad"));
            output && !(name.starts_with("step") && name.contains(".grad."))
        };
        let unchecked = tensors.keys().filter(is_output).cloned().collect();
        Self {
            name: name.to_string(),
            tensors,
            tolerances,
            config: json["config"].clone(),
            unchecked: RefCell::new(unchecked),
        }
    }

    /// Returns an integer of the case's configuration.
    #[track_caller]
    pub fn config_i64(&self, key: &str) -> i64 {
        self.config[key].as_i64().unwrap_or_else(|| panic!("{}: expected an integer {key}", self.name))
    }

    /// Returns the case's configuration.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Returns whether the case holds a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns a tensor of the case; integers as int64, booleans (U8) as bool.
    #[track_caller]
    pub fn tensor(&self, name: &str) -> Tensor {
        let Some(tensor) = self.tensors.get(name) else { panic!("{}: no tensor {name}", self.name) };
        match tensor.kind() {
            Kind::Int => tensor.to_kind(Kind::Int64),
            Kind::Uint8 => tensor.to_kind(Kind::Bool),
            _ => tensor.shallow_clone(),
        }
    }

    /// Checks that `got` equals the golden tensor: integers and booleans exactly, floats within the file's tolerance.
    #[track_caller]
    pub fn check(&self, name: &str, got: &Tensor) {
        let want = self.tensor(name);
        self.unchecked.borrow_mut().remove(name);
        crate::expect_shape(&format!("{}: {name}", self.name), got, &want.size());
        let difference =
            (got.to_kind(Kind::Double) - want.to_kind(Kind::Double)).abs().max().double_value(&[]);
        let tolerance = if want.kind() == Kind::Float { self.tolerances[name] } else { 0. };
        assert!(
            difference <= tolerance,
            "{}: {name}: largest difference {difference:.3e}, tolerance {tolerance:.3e}",
            self.name
        );
    }

    /// Ends the case: every output must have been checked but those whose names start with one of `left_out`.
    #[track_caller]
    pub fn finish(self, left_out: &[&str]) {
        let mut unchecked = self.unchecked.into_inner();
        unchecked.retain(|name| !left_out.iter().any(|prefix| name.starts_with(prefix)));
        assert!(unchecked.is_empty(), "{}: outputs that were not checked: {unchecked:?}", self.name);
    }

    /// Copies the tensors `<prefix><official name>` into the parameters, whose names are those of [`ours`] behind
    /// `scope`. Every parameter must get a value, but those that end in one of `left_out`.
    #[track_caller]
    pub fn load_params(&self, prefix: &str, scope: &str, params: &Params, left_out: &[&str]) {
        let mut official: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            if let Some(path) = name.strip_prefix(prefix) {
                official.insert(format!("{scope}{}", ours(path)), to_ours(path, tensor));
            }
        }
        for (name, parameter) in params.named() {
            match official.get(&name) {
                Some(value) => tch::no_grad(|| parameter.shallow_clone().copy_(value)),
                None => {
                    let known = left_out.iter().any(|suffix| name.ends_with(suffix));
                    assert!(known, "{}: nothing for parameter {name} in {:?}", self.name, official.keys())
                }
            }
        }
    }

    /// Checks the gradients `<prefix><official name>` against those of the parameters behind `scope`.
    #[track_caller]
    pub fn check_gradients(&self, prefix: &str, scope: &str, params: &Params) {
        let named: HashMap<_, _> = params.named().into_iter().collect();
        let golden: Vec<_> = self.tensors.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        for name in golden {
            let path = &name[prefix.len()..];
            if let Some(parameter) = named.get(&format!("{scope}{}", ours(path))) {
                let gradient = parameter.grad();
                self.check(&name, &to_ours(path, &gradient));
            }
        }
    }
}

/// Replacements that turn an official parameter path into ours, in order.
const RENAMES: [(&str, &str); 20] = [
    ("embed.embedding", "embedding.weight"),
    ("final_layernorm.scale", "final_norm.weight"),
    ("transformer", "layers."),
    ("relative_positions.rel_embedding", "position_bias.weight"),
    ("recurrent_initial_state", "cell.initial_state"),
    ("recurrent_tbase.ffn.gate_bias", "cell.ffn_gate.gate_bias"),
    ("recurrent_tbase.post_attn_mlp.gate_bias", "cell.attention_gate.gate_bias"),
    ("recurrent_tbase.", "cell."),
    ("tbase.", ""),
    ("pre_attn_layernorm.scale", "norm.weight"),
    ("_kvq.", "attention."),
    ("keys_layer", "key"),
    ("values_layer", "value"),
    ("queries_layer", "query"),
    ("queries2_layer", "cross_query"),
    ("position_embeddings", "state_ids"),
    ("pre_ffn_layernorm.scale", "ffn_norm.weight"),
    ("post_attn_mlp.output_layer", "attention_out"),
    ("hidden0", "hidden"),
    ("ffn.output_layer", "ffn.out"),
];

/// Returns our name of an official parameter (prefix `params/` removed, `.` for `/`).
pub fn ours(official: &str) -> String {
    let mut name = official.to_string();
    for (from, to) in RENAMES {
        name = name.replace(from, to);
    }
    let gates = [("post_attn_mlp.", "attention_gate."), ("ffn.", "ffn_gate.")];
    for (mlp, gate) in gates {
        for part in ["forget", "input"] {
            name = name.replace(&format!("{mlp}{part}_gate"), &format!("{gate}{part}"));
        }
    }
    // The second temperature sits beside the projections, not in them.
    let name = name.replace("attention_scale2", "attention.cross_temperature");
    name.replace("attention_scale", "temperature").replace(".kernel", ".weight")
}

/// Returns a parameter or gradient in the other library's layout: kernels are `[in, out]` there, `[out, in]` here.
fn to_ours(path: &str, tensor: &Tensor) -> Tensor {
    if path.ends_with("kernel") { tensor.transpose(0, 1) } else { tensor.shallow_clone() }
}

#[cfg(test)]
mod tests {
    use super::ours;

    #[test]
    fn names_of_the_official_code() {
        let table = [
            ("embed.embedding", "embedding.weight"),
            ("transformer3.tbase._kvq.keys_layer.kernel", "layers.3.attention.key.weight"),
            ("transformer3.tbase._kvq.attention_scale", "layers.3.attention.temperature"),
            ("tbase.attention_scale2", "attention.cross_temperature"),
            ("tbase.post_attn_mlp.output_layer.kernel", "attention_out.weight"),
            ("recurrent_tbase._kvq.position_embeddings", "cell.attention.state_ids"),
            ("recurrent_tbase.post_attn_mlp.gate_bias", "cell.attention_gate.gate_bias"),
            ("recurrent_tbase.ffn.forget_gate.kernel", "cell.ffn_gate.forget.weight"),
            ("recurrent_tbase.ffn.output_layer.kernel", "cell.ffn.out.weight"),
        ];
        for (official, name) in table {
            assert_eq!(ours(official), name);
        }
    }
}
