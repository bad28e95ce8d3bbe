//! `brt state`: what files of states hold, and how two differ.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};
use brt_lm::{StateFileInfo, TextState};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::{
    arguments::StateCommand,
    output::{exact, result},
};

type Tensors = BTreeMap<String, Tensor>;

/// A tensor of a state, seen as vectors along its last axis.
#[derive(Debug, Serialize)]
struct Part {
    name: String,
    shape: Vec<i64>,
    mean_norm: f64,
    min_norm: f64,
    max_norm: f64,
    /// Mean cosine of two different vectors; `None` where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_cosine: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Shown {
    model: String,
    num_tokens: u64,
    parts: Vec<Part>,
    /// How far gates would be open if the block ended here: mean and quantiles, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    gates: BTreeMap<String, f64>,
}

/// How a tensor differs between two states, token by token from the newest; of what both have written.
#[derive(Debug, Serialize)]
struct Difference {
    name: String,
    /// Vectors that were compared.
    num_vectors: i64,
    /// Length of the difference as a share of that of the first; `None` where nothing was compared.
    relative: Option<f64>,
    mean_cosine: Option<f64>,
    min_cosine: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Compared {
    model: String,
    num_tokens: [u64; 2],
    differences: Vec<Difference>,
}

pub(super) fn run(command: &StateCommand) -> Result<()> {
    match command {
        StateCommand::Show { state, run, json } => show(state, run.as_deref(), *json),
        StateCommand::Diff { a, b, json } => diff(a, b, *json),
    }
}

fn show(path: &Path, run: Option<&Path>, as_json: bool) -> Result<()> {
    let (tensors, info) = TextState::read(path)?;
    let StateFileInfo { model_hash: model, num_tokens, .. } = info;
    let parts = vectors(&tensors).map(|(name, x)| part(name, x)).collect();
    let gates = run.map(|run| gates(path, run)).transpose()?.unwrap_or_default();
    let shown = Shown { model, num_tokens, parts, gates };
    if as_json {
        result(serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    result(format!("after {} tokens, of the model {}", exact(num_tokens), short(&shown.model)));
    result(format!("{:<28} {:>16} {:>8} {:>8} {:>8} {:>8}", "", "shape", "norm", "least", "most", "cosine"));
    for Part { name, shape, mean_norm, min_norm, max_norm, mean_cosine } in &shown.parts {
        let (shape, cosine) = (format!("{shape:?}"), number(*mean_cosine));
        result(format!(
            "{name:<28} {shape:>16} {mean_norm:>8.3} {min_norm:>8.3} {max_norm:>8.3} {cosine:>8}"
        ));
    }
    for (name, value) in &shown.gates {
        result(format!("{name:<54} {value:>8.3}"));
    }
    Ok(())
}

fn diff(a: &Path, b: &Path, as_json: bool) -> Result<()> {
    let ((of_a, info_a), (of_b, info_b)) = (TextState::read(a)?, TextState::read(b)?);
    if info_a.model_hash != info_b.model_hash {
        let (expected, got) = (short(&info_a.model_hash), short(&info_b.model_hash));
        bail!(
            "{}: expected a state of the model {expected}, as {} is, got one of {got}",
            b.display(),
            a.display()
        );
    }
    let differences = differences([(&of_a, &info_a), (&of_b, &info_b)]);
    let differences = differences.with_context(|| format!("{} and {}", a.display(), b.display()))?;
    let num_tokens = [info_a.num_tokens, info_b.num_tokens];
    let compared = Compared { model: info_a.model_hash, num_tokens, differences };
    if as_json {
        result(serde_json::to_string_pretty(&compared)?);
        return Ok(());
    }
    let [a, b] = compared.num_tokens.map(exact);
    result(format!("after {a} and {b} tokens, of the model {}", short(&compared.model)));
    result(format!(
        "{:<28} {:>8} {:>10} {:>12} {:>13}",
        "", "vectors", "relative", "mean cosine", "least cosine"
    ));
    for Difference { name, num_vectors, relative, mean_cosine, min_cosine } in &compared.differences {
        let [relative, mean, least] = [relative, mean_cosine, min_cosine].map(|value| number(*value));
        result(format!("{name:<28} {num_vectors:>8} {relative:>10} {mean:>12} {least:>13}"));
    }
    Ok(())
}

/// Returns how each tensor differs.
fn differences([a, b]: [(&Tensors, &StateFileInfo); 2]) -> Result<Vec<Difference>> {
    let difference = |(name, of_a): (&str, &Tensor)| {
        let of_b = b.0.get(name).filter(|of_b| of_b.size() == of_a.size());
        let of_b =
            of_b.with_context(|| format!("{name}: expected {:?} in both, got another shape", of_a.size()))?;
        let [of_a, of_b] = [(of_a, a.1), (of_b, b.1)].map(|(x, info)| by_age(name, x, info.num_tokens));
        Ok(difference(name, &of_a, &of_b))
    };
    vectors(a.0).map(difference).collect()
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.4}"))
}

fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// Returns the tensors that are vectors of numbers, in the order of their layers.
fn vectors(tensors: &Tensors) -> impl Iterator<Item = (&str, &Tensor)> {
    let layer = |name: &str| name.split('.').nth(1).and_then(|idx| idx.parse::<usize>().ok());
    let mut parts: Vec<_> = tensors.iter().filter(|(name, x)| layer(name).is_some() && is_float(x)).collect();
    parts.sort_by_key(|(name, _)| (layer(name), (*name).clone()));
    parts.into_iter().map(|(name, x)| (name.as_str(), x))
}

fn is_float(x: &Tensor) -> bool {
    matches!(x.kind(), Kind::Float | Kind::BFloat16)
}

/// Returns keys and values of a ring with the oldest first; other tensors as they are.
fn by_age(name: &str, x: &Tensor, num_tokens: u64) -> Tensor {
    let of_ring = name.split('.').count() == 3 && [".keys", ".values"].iter().any(|end| name.ends_with(end));
    match x.size().get(2) {
        Some(&window_len) if of_ring && window_len > 0 => {
            x.roll([-((num_tokens % window_len as u64) as i64)], [2])
        }
        _ => x.shallow_clone(),
    }
}

/// Returns all vectors along the last axis, `[num, width]`.
fn rows(x: &Tensor) -> Tensor {
    let width = x.size().last().copied().unwrap_or(1).max(1);
    x.reshape([-1, width]).to_kind(Kind::Double)
}

fn norms(rows: &Tensor) -> Tensor {
    rows.square().sum_dim_intlist(-1, false, Kind::Double).sqrt()
}

/// Leaves out vectors of zeros: nothing has been written there.
fn part(name: &str, x: &Tensor) -> Part {
    let all = rows(x);
    let rows = all.index_select(0, &norms(&all).nonzero().squeeze_dim(1));
    let (norms, num) = (norms(&rows), rows.size()[0]);
    let value = |of: fn(&Tensor) -> Tensor| if num == 0 { 0. } else { of(&norms).double_value(&[]) };
    // The sum of all pairs' cosines is the square of the sum of unit vectors, without those of vectors with themselves.
    let unit = &rows / norms.unsqueeze(1);
    let sum = unit.sum_dim_intlist(0, false, Kind::Double).square().sum(Kind::Double).double_value(&[]);
    let pairs = (num * (num - 1)) as f64;
    Part {
        name: name.to_owned(),
        shape: x.size(),
        mean_norm: value(|norms| norms.mean(Kind::Double)),
        min_norm: value(Tensor::min),
        max_norm: value(Tensor::max),
        mean_cosine: (num > 1).then(|| (sum - num as f64) / pairs),
    }
}

fn difference(name: &str, a: &Tensor, b: &Tensor) -> Difference {
    let (a, b) = (rows(a), rows(b));
    let both = (norms(&a) * norms(&b)).nonzero().squeeze_dim(1);
    let [a, b] = [a, b].map(|rows| rows.index_select(0, &both));
    let cosines = (&a * &b).sum_dim_intlist(-1, false, Kind::Double) / (norms(&a) * norms(&b));
    let length = |x: &Tensor| x.square().sum(Kind::Double).sqrt().double_value(&[]);
    let num_vectors = both.size()[0];
    let value = |value: &dyn Fn() -> f64| (num_vectors > 0).then(value);
    Difference {
        name: name.to_owned(),
        num_vectors,
        relative: value(&|| length(&(&a - &b)) / length(&a)),
        mean_cosine: value(&|| cosines.mean(Kind::Double).double_value(&[])),
        min_cosine: value(&|| cosines.min().double_value(&[])),
    }
}

/// Returns how far the gates of a run would be open if the state's block ended here.
fn gates(state: &Path, run: &Path) -> Result<BTreeMap<String, f64>> {
    let (model, _) = super::load_model(run, Device::Cpu)?;
    Ok(TextState::load(state, &model)?.gates(&model))
}
