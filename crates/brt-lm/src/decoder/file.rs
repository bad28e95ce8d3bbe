//! The state of a text as a file: safetensors with the model that it is of, and how far it has read.

use std::path::{Path, PathBuf};

use brt_ops::checkpoint::{self, CheckpointError, Tensors};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{TextState, text_state::LayerText};
use crate::{LanguageModel, LayerState, ModelState};

/// Name of the one fact beside the tensors: with several, equal states could be different files.
const FACT: &str = "brt_text_state";
/// Version of what the file holds.
const FORMAT: u32 = 1;

/// What can go wrong with the file of a state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// It cannot be written or read, or holds other tensors.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// It is a file of something else.
    #[error("{path}: expected the state of a text, got {got}")]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFileInfo {
    /// Version of what the file holds.
    pub format: u32,
    /// Hash of the model ([`LanguageModel::hash`]).
    pub model_hash: String,
    /// Number of tokens that have been read since the text began.
    pub num_tokens: u64,
}

impl TextState {
    /// Writes the state to a file, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, path: &Path, model: &LanguageModel) -> Result<(), StateFileError> {
        let model_hash = model.hash().to_owned();
        let info = StateFileInfo { format: FORMAT, model_hash, num_tokens: self.num_tokens };
        let info = serde_json::to_string(&info).expect("a record of plain values");
        Ok(checkpoint::save_with(path, &self.named(), [(FACT.to_owned(), info)].into())?)
    }

    /// Reads the state of a text that `model` has read, in either precision.
    ///
    /// # Errors
    /// A file that is none, of another model, or damaged.
    pub fn load(path: &Path, model: &LanguageModel) -> Result<Self, StateFileError> {
        let (mut tensors, info) = Self::read(path)?;
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        if info.model_hash != model.hash() {
            let (expected, got) = (short(model.hash()), short(&info.model_hash));
            return Err(StateFileError::Model { path: path.into(), expected, got });
        }
        let recent = recent(tensors.get("recent"), &info, model)
            .map_err(|got| StateFileError::Format { path: path.into(), got })?;
        let logits = |_: &Tensor| Tensor::zeros([model.config().vocab_size], (Kind::Float, Device::Cpu));
        let mut text = Self {
            layers: tch::no_grad(|| LayerText::all(model, &model.initial_state(1))),
            num_tokens: info.num_tokens,
            recent: recent.into(),
            next_logits: tensors.get("next_logits").map(logits).map(|x| x.to_device(model.params().device())),
        };
        let named = text.named();
        for (name, own) in &named {
            if let Some(saved) = tensors.get_mut(name).filter(|saved| is_float(saved) && is_float(own)) {
                *saved = saved.to_kind(own.kind());
            }
        }
        checkpoint::compare(path, &tensors, &named)?;
        tch::no_grad(|| {
            named.iter().for_each(|(name, own)| own.shallow_clone().copy_(&tensors[name]));
            let layers = model.layers().iter().zip(&mut text.layers);
            layers.for_each(|(layer, own)| model.in_own_kind(|| own.restore(layer)));
        });
        Ok(text)
    }

    /// Reads the tensors of a state and what is written about it, whatever the model.
    ///
    /// # Errors
    /// A file that is none, or has numbers that are not finite.
    pub fn read(path: &Path) -> Result<(Tensors, StateFileInfo), StateFileError> {
        let (tensors, facts) = checkpoint::load_with(path, Device::Cpu)?;
        let format = |got: String| StateFileError::Format { path: path.into(), got };
        let Some(info) = facts.get(FACT) else { return Err(format("other tensors".into())) };
        let info: StateFileInfo = serde_json::from_str(info).map_err(|error| format(error.to_string()))?;
        if info.format != FORMAT {
            return Err(format(format!("format {}; this version reads format {FORMAT}", info.format)));
        }
        if i64::try_from(info.num_tokens).is_err() {
            return Err(format(format!("{} tokens", info.num_tokens)));
        }
        let is_finite = |x: &Tensor| !is_float(x) || x.isfinite().all().int64_value(&[]) != 0;
        match tensors.iter().find(|(_, tensor)| !is_finite(tensor)) {
            Some((name, _)) => Err(format(format!("numbers in {name} that are not finite"))),
            None => Ok((tensors, info)),
        }
    }

    /// Returns all tensors with names: `layers.3.recurrent`.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let layers = self.layers.iter().map(|layer| LayerState {
            cache: layer.ring.slots(),
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

fn is_float(tensor: &Tensor) -> bool {
    matches!(tensor.kind(), Kind::Float | Kind::BFloat16)
}

/// Returns the recent tokens of a file, or what is wrong with them.
fn recent(saved: Option<&Tensor>, info: &StateFileInfo, model: &LanguageModel) -> Result<Vec<i64>, String> {
    let config = model.config();
    let saved = saved.filter(|tokens| tokens.kind() == Kind::Int64 && tokens.dim() == 1);
    let tokens = saved.and_then(|tokens| Vec::<i64>::try_from(tokens).ok()).ok_or("no recent tokens")?;
    if let Some(token) = tokens.iter().find(|token| !(0..config.vocab_size).contains(*token)) {
        return Err(format!("the token {token}, where the model has {}", config.vocab_size));
    }
    match tokens.len() as u64 <= info.num_tokens.min(config.window_len as u64) {
        true => Ok(tokens),
        false => Err(format!("{} recent tokens of {}", tokens.len(), info.num_tokens)),
    }
}
