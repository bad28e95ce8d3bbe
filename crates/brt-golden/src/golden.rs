//! A golden file: numbers of the official code, each with its meaning and a tolerance.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use brt_lm::{
    LanguageModel,
    official::{official_path, swap_layout},
};
use brt_ops::checkpoint;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// How far a tensor may be from the file's, and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// Name of the tensor in the file.
    pub tensor: String,
    /// Largest absolute difference of a value.
    pub difference: f64,
    /// Largest difference that rounding explains, from the sidecar; 0 for integers and booleans.
    pub tolerance: f64,
}

impl Deviation {
    /// Returns whether the tensor equals the file's.
    pub fn is_within(&self) -> bool {
        self.difference <= self.tolerance
    }

    /// Returns the difference as a share of the tolerance.
    pub fn share(&self) -> f64 {
        if self.difference == 0. { 0. } else { self.difference / self.tolerance }
    }
}

/// One golden file: `NAME.safetensors` and its sidecar `NAME.json`.
#[derive(Debug)]
pub(crate) struct Golden {
    pub(crate) config: Value,
    /// Where everything is computed.
    pub(crate) device: Device,
    tensors: BTreeMap<String, Tensor>,
    entries: BTreeMap<String, Value>,
    unchecked: RefCell<BTreeSet<String>>,
    deviations: RefCell<Vec<Deviation>>,
}

impl Golden {
    /// Reads the file `name` of a folder.
    pub(crate) fn open(folder: &Path, name: &str, device: Device) -> Result<Self> {
        let path = folder.join(format!("{name}.json"));
        let json = std::fs::read(&path).with_context(|| format!("{}: cannot read", path.display()))?;
        let json: Value = serde_json::from_slice(&json).with_context(|| path.display().to_string())?;
        let tensors = checkpoint::load(&folder.join(format!("{name}.safetensors")), device)?;
        let listed = json["tensors"].as_array().context("expected a list of tensors in the sidecar")?;
        let named = |entry: &Value| Some((entry["name"].as_str()?.to_string(), entry.clone()));
        let entries: BTreeMap<String, Value> = listed.iter().filter_map(named).collect();
        let role = |name: &String| entries.get(name).and_then(|entry| entry["role"].as_str());
        // Values inside of models are there to locate an error; those inside of layers are checked.
        let is_layer = name.starts_with("layer");
        let is_output = |name: &&String| match role(name) {
            Some("output" | "state" | "grad") => true,
            Some("debug") => is_layer,
            _ => false,
        };
        let unchecked = tensors.keys().filter(is_output).cloned().collect();
        Ok(Self {
            config: json["config"].clone(),
            device,
            unchecked: RefCell::new(unchecked),
            deviations: RefCell::default(),
            tensors,
            entries,
        })
    }

    /// Returns kind and device of new tensors.
    pub(crate) fn options(&self) -> (Kind, Device) {
        (Kind::Float, self.device)
    }

    /// Returns an integer of the configuration.
    pub(crate) fn int(&self, key: &str) -> Result<i64> {
        self.config[key].as_i64().with_context(|| format!("config.{key}: expected an integer"))
    }

    /// Returns whether the file holds a tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the names of all tensors that begin with `prefix`, without it.
    pub(crate) fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().filter_map(move |name| name.strip_prefix(prefix))
    }

    /// Returns the first parts of the names that end with `.suffix`: the cases of a file of many.
    pub(crate) fn cases(&self, suffix: &str) -> Vec<String> {
        let suffix = format!(".{suffix}");
        self.tensors.keys().filter_map(|name| name.strip_suffix(&suffix)).map(str::to_string).collect()
    }

    /// Returns what the sidecar says about a tensor.
    pub(crate) fn meaning(&self, name: &str) -> &str {
        self.entries.get(name).and_then(|entry| entry["meaning"].as_str()).unwrap_or_default()
    }

    /// Returns a tensor; integers as int64, booleans (U8) as bool.
    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor> {
        let tensor = self.tensors.get(name).with_context(|| format!("no tensor {name}"))?;
        Ok(match tensor.kind() {
            Kind::Int => tensor.to_kind(Kind::Int64),
            Kind::Uint8 => tensor.to_kind(Kind::Bool),
            _ => tensor.shallow_clone(),
        })
    }

    /// Compares `got` with the file's tensor.
    pub(crate) fn check(&self, name: &str, got: &Tensor) -> Result<()> {
        let want = self.tensor(name)?;
        self.unchecked.borrow_mut().remove(name);
        let (got_size, want_size) = (got.size(), want.size());
        ensure!(got_size == want_size, "{name}: expected shape {want_size:?}, got {got_size:?}");
        let got = got.to_device(want.device()).to_kind(Kind::Double);
        let difference = (got - want.to_kind(Kind::Double)).abs().max();
        let tolerance = match want.kind() {
            Kind::Float => {
                self.entries[name]["tol"].as_f64().with_context(|| format!("{name}: no tolerance"))?
            }
            _ => 0.,
        };
        let deviation =
            Deviation { tensor: name.into(), difference: difference.double_value(&[]), tolerance };
        self.deviations.borrow_mut().push(deviation);
        Ok(())
    }

    /// Ends the file: every output must have been compared.
    pub(crate) fn finish(self) -> Result<Vec<Deviation>> {
        let unchecked = self.unchecked.into_inner();
        if !unchecked.is_empty() {
            bail!("{} outputs were not compared: {unchecked:?}", unchecked.len());
        }
        Ok(self.deviations.into_inner())
    }

    /// Copies the tensors `<prefix><official name>` into the parameters whose official path starts with `scope`, all of
    /// them; a file of one layer leaves `transformer0/` out of its names.
    pub(crate) fn load_parameters(&self, prefix: &str, scope: &str, model: &LanguageModel) -> Result<()> {
        for (path, parameter) in model.official_parameters() {
            let Some(path) = path.strip_prefix(scope) else { continue };
            let value = self.tensor(&format!("{prefix}{}", path.replace('/', ".")))?;
            ensure!(
                value.size() == parameter.size(),
                "{path}: expected {:?}, got {value:?}",
                parameter.size()
            );
            tch::no_grad(|| parameter.shallow_clone().copy_(&value));
        }
        Ok(())
    }

    /// Compares the gradients `<prefix><official name>` with those of the parameters behind `scope`.
    pub(crate) fn check_gradients(&self, prefix: &str, scope: &str, model: &LanguageModel) -> Result<()> {
        self.check_parameters(prefix, scope, model, |parameter| {
            let gradient = parameter.grad();
            if gradient.defined() { gradient } else { parameter.zeros_like() }
        })
    }

    /// Compares tensors `<prefix><official name>` with what `of` makes of the parameters behind `scope`.
    pub(crate) fn check_parameters(
        &self,
        prefix: &str,
        scope: &str,
        model: &LanguageModel,
        of: impl Fn(&Tensor) -> Tensor,
    ) -> Result<()> {
        for (name, parameter) in model.params().named() {
            let path = official_path(&name, &model.config().position).context("an official name")?;
            let Some(short) = path.strip_prefix(scope) else { continue };
            let name = format!("{prefix}{}", short.replace('/', "."));
            if self.has(&name) {
                self.check(&name, &swap_layout(&path, &of(&parameter)))?;
            }
        }
        Ok(())
    }
}
