//! The state of a text as a file: safetensors with the model that it is of, and how far it has read.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use brt_ops::checkpoint::{self, CheckpointError};
use tch::{Kind, Tensor};

use super::{Decoder, TextState};
use crate::{LanguageModel, LayerState, ModelState};

/// Version of what the file holds.
const FORMAT: &str = "brt text state 1";

/// What can go wrong with the file of a state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// It cannot be written or read, or holds other tensors.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// It is a file of something else.
    #[error("{path}: expected the state of a text (`{FORMAT}`), got {got}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says to be, or what is wrong with it.
        got: String,
    },
    /// It is the state of another model.
    #[error(
        "{path}: expected a state of the model {expected}, got one of the model {got}; a state fits the model alone that made it"
    )]
    Model {
        /// The file.
        path: PathBuf,
        /// Beginning of the model's hash.
        expected: String,
        /// Beginning of the hash of the model that the state is of.
        got: String,
    },
}

/// What is written about a state beside its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFileInfo {
    /// Hash of the model ([`LanguageModel::hash`]).
    pub model: String,
    /// Number of tokens that have been read since the text began.
    pub num_tokens: u64,
}

impl TextState {
    /// Writes the state to a file, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, path: &Path, model: &LanguageModel) -> Result<(), StateFileError> {
        let facts = [
            ("format", FORMAT.to_owned()),
            ("model", model.hash().to_owned()),
            ("num_tokens", self.num_tokens.to_string()),
        ];
        let facts = facts.map(|(key, value)| (key.to_owned(), value));
        Ok(checkpoint::save_with(path, &self.named(), HashMap::from(facts))?)
    }

    /// Reads the state of a text that `model` has read.
    ///
    /// # Errors
    /// A file that is none, of another model, or damaged.
    pub fn load(path: &Path, model: &LanguageModel) -> Result<Self, StateFileError> {
        let (tensors, info) = Self::read(path)?;
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        if info.model != model.hash() {
            let (expected, got) = (short(model.hash()), short(&info.model));
            return Err(StateFileError::Model { path: path.into(), expected, got });
        }
        let mut text = Decoder::new(model).start();
        text.num_tokens = info.num_tokens;
        let window_len = model.config().window_len;
        let num_recent = info.num_tokens.min(window_len as u64) as i64;
        let options = (Kind::Float, model.params().device());
        text.recent = vec![0; num_recent as usize].into();
        text.next_logits = (info.num_tokens > 0).then(|| Tensor::zeros([model.config().vocab_size], options));
        let named = text.named();
        checkpoint::compare(path, &tensors, &named)?;
        let tensor = |name: &str| tensors[name].to_device(model.params().device());
        tch::no_grad(|| {
            for (name, own) in &named {
                own.shallow_clone().copy_(&tensor(name));
            }
        });
        let recent: Vec<i64> = Vec::try_from(&tensors["recent"]).expect("compared");
        if let Some(token) = recent.iter().find(|token| !(0..model.config().vocab_size).contains(*token)) {
            let got = format!("the token {token}");
            return Err(StateFileError::Format { path: path.into(), got });
        }
        text.recent = recent.into();
        for (layer, own) in model.layers().iter().zip(&mut text.layers) {
            tch::no_grad(|| model.in_own_kind(|| own.restore(layer)));
        }
        Ok(text)
    }

    /// Reads the tensors of a state and what is written about it, whatever the model.
    ///
    /// # Errors
    /// A file that is none.
    pub fn read(path: &Path) -> Result<(BTreeMap<String, Tensor>, StateFileInfo), StateFileError> {
        let (tensors, facts) = checkpoint::load_with(path, tch::Device::Cpu)?;
        let format = |got: String| StateFileError::Format { path: path.into(), got };
        let fact = |key: &str| facts.get(key).map(String::as_str);
        match fact("format") {
            Some(FORMAT) => (),
            Some(other) => return Err(format(format!("`{other}`"))),
            None => return Err(format("other tensors".into())),
        }
        let num_tokens = fact("num_tokens").and_then(|text| text.parse().ok());
        match (fact("model"), num_tokens) {
            (Some(model), Some(num_tokens)) => {
                Ok((tensors, StateFileInfo { model: model.to_owned(), num_tokens }))
            }
            _ => Err(format("one without model and number of tokens".into())),
        }
    }

    /// Returns all tensors with names: `layers.3.recurrent`.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let layers = self.layers.iter().map(|layer| LayerState {
            cache: layer.ring.map(Tensor::shallow_clone).into_cache(),
            recurrent: layer.states.as_ref().map(|states| states.state.shallow_clone()),
            memory: layer.memory.as_ref().map(|memory| memory.map(Tensor::shallow_clone)),
        });
        let mut named = ModelState { layers: layers.collect() }.named();
        for (idx, states) in self.layers.iter().map(|layer| &layer.states).enumerate() {
            if let Some(states) = states {
                named.push((format!("layers.{idx}.before.keys"), states.before.keys.shallow_clone()));
                named.push((format!("layers.{idx}.before.values"), states.before.values.shallow_clone()));
            }
        }
        named.push(("recent".into(), Tensor::from_slice(&self.recent())));
        named.extend(self.next_logits.as_ref().map(|logits| ("next_logits".into(), logits.shallow_clone())));
        named
    }
}
