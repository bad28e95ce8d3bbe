//! Weights under the names and in the layout of the official code.
//!
//! Official names are paths, `transformer3/tbase/_kvq/keys_layer/kernel`; kernels are `[in, out]` there, `[out, in]` here.

use std::collections::{BTreeMap, BTreeSet};

use brt_ops::PositionConfig;
use tch::Tensor;

use crate::LanguageModel;

/// Names of the parts that the token half of a layer and its cell share: ours, theirs.
const PARTS: [(&str, &str); 19] = [
    ("attention.norm.weight", "_kvq/pre_attn_layernorm/scale"),
    ("attention.key.weight", "_kvq/keys_layer/kernel"),
    ("attention.value.weight", "_kvq/values_layer/kernel"),
    ("attention.query.weight", "_kvq/queries_layer/kernel"),
    ("attention.cross_query.weight", "_kvq/queries2_layer/kernel"),
    ("attention.temperature", "_kvq/attention_scale"),
    ("attention.cross_temperature", "attention_scale2"),
    ("attention.state_ids", "_kvq/position_embeddings"),
    ("attention_out.weight", "post_attn_mlp/output_layer/kernel"),
    ("attention_gate.gate_bias", "post_attn_mlp/gate_bias"),
    ("attention_gate.forget.weight", "post_attn_mlp/forget_gate/kernel"),
    ("attention_gate.forget.bias", "post_attn_mlp/forget_gate/bias"),
    ("attention_gate.input.weight", "post_attn_mlp/input_gate/kernel"),
    ("attention_gate.input.bias", "post_attn_mlp/input_gate/bias"),
    ("attention_gate.full.weight", "post_attn_mlp/gate_layer/kernel"),
    ("attention_gate.full.bias", "post_attn_mlp/gate_layer/bias"),
    ("ffn_norm.weight", "pre_ffn_layernorm/scale"),
    ("ffn.hidden.weight", "ffn/hidden0/kernel"),
    ("ffn.out.weight", "ffn/output_layer/kernel"),
];

/// Returns the official path of a parameter of ours; `None` for a name that no model has.
pub fn official_path(ours: &str, position: &PositionConfig) -> Option<String> {
    match ours {
        "embedding.weight" => return Some("embed/embedding".into()),
        "final_norm.weight" => return Some("final_layernorm/scale".into()),
        _ => (),
    }
    let (idx, rest) = ours.strip_prefix("layers.")?.split_once('.')?;
    let of_layer = match rest {
        "cell.initial_state" => "recurrent_initial_state".into(),
        "memory.gate_bias" => "external_memory_bias".into(),
        _ => match (rest.strip_prefix("position_bias."), rest.strip_prefix("cell.")) {
            (Some(name), _) => format!("relative_positions/{}", position_name(name, position)?),
            (_, Some(part)) => format!("recurrent_tbase/{}", part_path(part)?),
            _ => format!("tbase/{}", part_path(rest)?),
        },
    };
    Some(format!("transformer{idx}/{of_layer}"))
}

fn position_name(ours: &str, position: &PositionConfig) -> Option<&'static str> {
    match (ours, position) {
        ("weight", PositionConfig::T5 { .. }) => Some("rel_embedding"),
        ("weight", PositionConfig::Fourier { .. }) => Some("rotation_matrix"),
        ("weight", PositionConfig::Orthogonal { .. }) => Some("orthogonal_basis_coeffs"),
        ("scale", _) => Some("_wrapped_module/scale"),
        ("bound", _) => Some("_wrapped_module/bound"),
        ("hidden_weight", _) => Some("dense_1_kernel"),
        ("hidden_bias", _) => Some("bias"),
        ("out_weight", _) => Some("dense_2_kernel"),
        _ => None,
    }
}

/// Returns the path of a part of a layer or cell. The gate after the feed-forward layer is named like that after attention.
fn part_path(ours: &str) -> Option<String> {
    let of_ffn = ours.strip_prefix("ffn_gate.").map(|gate| format!("attention_gate.{gate}"));
    let name = of_ffn.as_deref().unwrap_or(ours);
    let (_, path) = PARTS.iter().find(|(part, _)| *part == name)?;
    Some(if of_ffn.is_some() { path.replace("post_attn_mlp/", "ffn/") } else { (*path).into() })
}

/// Returns a tensor in the other library's layout, either way.
pub fn swap_layout(official_path: &str, tensor: &Tensor) -> Tensor {
    if official_path.ends_with("/kernel") { tensor.transpose(0, 1) } else { tensor.shallow_clone() }
}

impl LanguageModel {
    /// Returns all parameters by their official paths, in the official layout; the tensors share storage with the model.
    pub fn official_parameters(&self) -> BTreeMap<String, Tensor> {
        let position = &self.config().position;
        let official = |(name, tensor): (String, Tensor)| {
            let path = official_path(&name, position).expect("every parameter has an official name");
            let tensor = swap_layout(&path, &tensor);
            (path, tensor)
        };
        self.params().named().into_iter().map(official).collect()
    }

    /// Copies official parameters into the model. Paths may begin with `params/` and `decoder/` and have `.` for `/`.
    ///
    /// # Errors
    /// Every difference to what the model needs, one line each; nothing is copied then.
    pub fn load_official(&self, tensors: &BTreeMap<String, Tensor>) -> Result<(), Vec<String>> {
        let ours = self.official_parameters();
        let mut theirs: BTreeMap<String, &Tensor> = BTreeMap::new();
        let mut differences = vec![];
        for (path, tensor) in tensors {
            if theirs.insert(plain_path(path), tensor).is_some() {
                differences.push(format!("{}: expected one tensor, got another as {path}", plain_path(path)));
            }
        }
        let describe = |tensor: &Tensor| format!("{:?} {:?}", tensor.kind(), tensor.size());
        let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let difference = |path: &&String| match (ours.get(*path), theirs.get(*path)) {
            (Some(ours), Some(theirs)) if describe(ours) == describe(theirs) => None,
            (Some(ours), Some(theirs)) => {
                Some(format!("{path}: expected {}, got {}", describe(ours), describe(theirs)))
            }
            (Some(ours), None) => Some(format!("{path}: expected {}, got nothing", describe(ours))),
            (None, Some(theirs)) => Some(format!("{path}: expected nothing, got {}", describe(theirs))),
            (None, None) => None,
        };
        differences.extend(paths.iter().filter_map(difference));
        if !differences.is_empty() {
            return Err(differences);
        }
        tch::no_grad(|| {
            for (path, parameter) in &ours {
                parameter.shallow_clone().copy_(theirs[path]);
            }
        });
        Ok(())
    }
}

/// Returns an official path without its container's prefix, parts separated by `/`.
fn plain_path(path: &str) -> String {
    let path = path.replace('.', "/");
    let path = path.strip_prefix("params/").unwrap_or(&path);
    path.strip_prefix("decoder/").unwrap_or(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_official_code() {
        let table = [
            ("embedding.weight", "embed/embedding"),
            ("layers.3.attention.key.weight", "transformer3/tbase/_kvq/keys_layer/kernel"),
            ("layers.3.attention.temperature", "transformer3/tbase/_kvq/attention_scale"),
            ("layers.0.attention.cross_temperature", "transformer0/tbase/attention_scale2"),
            ("layers.0.position_bias.weight", "transformer0/relative_positions/rel_embedding"),
            ("layers.12.cell.initial_state", "transformer12/recurrent_initial_state"),
            ("layers.1.cell.attention.state_ids", "transformer1/recurrent_tbase/_kvq/position_embeddings"),
            (
                "layers.1.cell.attention_gate.gate_bias",
                "transformer1/recurrent_tbase/post_attn_mlp/gate_bias",
            ),
            ("layers.1.cell.ffn_gate.forget.weight", "transformer1/recurrent_tbase/ffn/forget_gate/kernel"),
            ("layers.1.cell.ffn.out.weight", "transformer1/recurrent_tbase/ffn/output_layer/kernel"),
            ("layers.8.memory.gate_bias", "transformer8/external_memory_bias"),
        ];
        for (ours, official) in table {
            assert_eq!(official_path(ours, &PositionConfig::PAPER).as_deref(), Some(official));
        }
        assert_eq!(official_path("layers.1.unknown", &PositionConfig::PAPER), None);
    }

    /// One tensor under two names, and one of another kind, are differences.
    #[test]
    fn doubles_and_kinds_are_differences() {
        let config = crate::ModelConfig {
            vocab_size: 5,
            model_dim: 4,
            num_layers: 1,
            num_heads: 1,
            head_dim: 2,
            ffn_dim: 3,
            window_len: 2,
            ..crate::ModelConfig::paper()
        };
        let model = LanguageModel::new(config, 1, tch::Device::Cpu).unwrap();
        let mut tensors = model.official_parameters();
        tensors.insert("decoder/final_layernorm/scale".into(), tensors["final_layernorm/scale"].copy());
        let embedding = tensors["embed/embedding"].to_kind(tch::Kind::BFloat16);
        tensors.insert("embed/embedding".into(), embedding);
        let expected = [
            "final_layernorm/scale: expected one tensor, got another as final_layernorm/scale",
            "embed/embedding: expected Float [5, 4], got BFloat16 [5, 4]",
        ];
        assert_eq!(model.load_official(&tensors).unwrap_err(), expected);
    }

    #[test]
    fn prefixes_and_separators_do_not_matter() {
        let expected = "transformer0/tbase/_kvq/keys_layer/kernel";
        for path in [expected.to_string(), format!("params/decoder/{expected}"), expected.replace('/', ".")] {
            assert_eq!(plain_path(&path), expected);
        }
    }
}
