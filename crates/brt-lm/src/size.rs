//! How many parameters a model has, module by module.

use std::collections::BTreeMap;

use crate::{ConfigError, LanguageModel, ModelConfig};

/// Parameters of one module, in all layers that have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSize {
    /// Where the module stands: `layers 0-8,10-11`, or nothing for one outside of the layers.
    pub layers: String,
    /// Name of the module, for example `cell.attention`.
    pub module: String,
    /// Number of layers that have it; 1 outside of the layers.
    pub num_layers: u64,
    /// Number of parameters in one of them.
    pub num_each: u64,
    /// Whether it is the embedding, a position bias or vectors (norms, temperatures, biases): what the paper's sizes
    /// leave out.
    pub is_left_out: bool,
}

impl ModuleSize {
    /// Returns the number of parameters in all layers.
    pub fn num_parameters(&self) -> u64 {
        self.num_layers * self.num_each
    }
}

impl ModelConfig {
    /// Returns the size of every module, those of the layers first. No parameter is drawn.
    ///
    /// # Errors
    /// A configuration that no model can have.
    pub fn module_sizes(&self) -> Result<Vec<ModuleSize>, ConfigError> {
        let model = LanguageModel::outline(self.clone())?;
        // (module, whether left out) → layer → number of parameters.
        let mut sizes: BTreeMap<(String, bool), BTreeMap<Option<u64>, u64>> = BTreeMap::new();
        for (name, parameter) in model.params().named() {
            let (layer, module) = split_layer(&name);
            let key = (module_name(module), is_left_out(module));
            *sizes.entry(key).or_default().entry(layer).or_default() += parameter.numel() as u64;
        }
        let mut modules: Vec<ModuleSize> =
            sizes.into_iter().flat_map(|(key, by_layer)| group(key, &by_layer)).collect();
        modules.sort_by_key(|m| (m.layers.is_empty(), m.module.starts_with("cell"), m.num_layers == 1));
        Ok(modules)
    }

    /// Returns the number of parameters as the paper gives sizes: matrices and states of the layers, without embedding,
    /// position biases and vectors.
    ///
    /// # Errors
    /// A configuration that no model can have.
    pub fn num_layer_parameters(&self) -> Result<u64, ConfigError> {
        let counted = |modules: Vec<ModuleSize>| {
            modules.iter().filter(|m| !m.is_left_out).map(ModuleSize::num_parameters).sum()
        };
        self.module_sizes().map(counted)
    }
}

/// Splits `layers.3.ffn.out.weight` into 3 and `ffn.out.weight`.
fn split_layer(name: &str) -> (Option<u64>, &str) {
    let in_layer = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    in_layer.map_or((None, name), |(idx, module)| (idx.parse().ok(), module))
}

/// Returns the module of a parameter, vectors beside matrices apart: `cell.attention`, `ffn`, `attention (vectors)`.
fn module_name(parameter: &str) -> String {
    let num_parts = if parameter.starts_with("cell.") { 2 } else { 1 };
    let module = parameter.split('.').take(num_parts).collect::<Vec<_>>().join(".");
    let is_mixed = module.ends_with("attention") || module.ends_with("gate");
    if is_mixed && is_vector(parameter) { format!("{module} (vectors)") } else { module }
}

fn is_vector(parameter: &str) -> bool {
    ["norm.weight", "temperature", "bias"].iter().any(|suffix| parameter.ends_with(suffix))
}

fn is_left_out(parameter: &str) -> bool {
    ["embedding", "position_bias"].iter().any(|prefix| parameter.starts_with(prefix)) || is_vector(parameter)
}

/// Puts layers whose module is of the same size together.
fn group((module, is_left_out): (String, bool), by_layer: &BTreeMap<Option<u64>, u64>) -> Vec<ModuleSize> {
    let mut of_size: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut groups = vec![];
    for (layer, &num_each) in by_layer {
        match layer {
            Some(idx) => of_size.entry(num_each).or_default().push(*idx),
            None => groups.push(ModuleSize {
                layers: String::new(),
                module: module.clone(),
                num_layers: 1,
                num_each,
                is_left_out,
            }),
        }
    }
    groups.extend(of_size.into_iter().map(|(num_each, layers)| ModuleSize {
        layers: ranges(&layers),
        module: module.clone(),
        num_layers: layers.len() as u64,
        num_each,
        is_left_out,
    }));
    groups
}

/// Returns sorted indices as `0-8,10`.
fn ranges(indices: &[u64]) -> String {
    let mut parts: Vec<(u64, u64)> = vec![];
    for &idx in indices {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == idx => *last = idx,
            _ => parts.push((idx, idx)),
        }
    }
    let part = |(first, last): (u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_indices() {
        assert_eq!(ranges(&[0, 1, 2, 4, 6, 7]), "0-2,4,6-7");
        assert_eq!(ranges(&[3]), "3");
    }

    #[test]
    fn modules_of_parameters() {
        assert_eq!(module_name("attention.key.weight"), "attention");
        assert_eq!(module_name("attention.temperature"), "attention (vectors)");
        assert_eq!(module_name("cell.ffn.out.weight"), "cell.ffn");
        assert_eq!(module_name("ffn_norm.weight"), "ffn_norm");
    }
}
