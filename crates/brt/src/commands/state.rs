//! `brt state`: what files of states hold, and how two differ.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail};
use brt_lm::{StateFileInfo, TextState};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::{
    arguments::StateCommand,
    output::{exact, result},
};

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

/// A gate that does not depend on the input: how much of a state it keeps.
#[derive(Debug, Serialize)]
struct GatePart {
    name: String,
    mean: f64,
    quantiles_05_50_95: [f64; 3],
}

#[derive(Debug, Serialize)]
struct Shown {
    model: String,
    num_tokens: u64,
    parts: Vec<Part>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gates: Vec<GatePart>,
}

/// How a tensor differs between two states.
#[derive(Debug, Serialize)]
struct Difference {
    name: String,
    /// Length of the difference as a share of that of the first.
    relative: f64,
    mean_cosine: f64,
    min_cosine: f64,
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
    let (tensors, StateFileInfo { model, num_tokens }) = TextState::read(path)?;
    let parts = vectors(&tensors).map(|(name, x)| part(name, x)).collect();
    let gates = match run {
        Some(run) => gates(path, run)?,
        None => vec![],
    };
    let shown = Shown { model, num_tokens, parts, gates };
    if as_json {
        result(serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    result(format!("after {} tokens, of the model {}", exact(num_tokens), short(&shown.model)));
    result(format!("{:<28} {:>16} {:>8} {:>8} {:>8} {:>8}", "", "shape", "norm", "least", "most", "cosine"));
    for Part { name, shape, mean_norm, min_norm, max_norm, mean_cosine } in &shown.parts {
        let cosine = mean_cosine.map_or(String::new(), |cosine| format!("{cosine:.3}"));
        let shape = format!("{shape:?}");
        result(format!(
            "{name:<28} {shape:>16} {mean_norm:>8.3} {min_norm:>8.3} {max_norm:>8.3} {cosine:>8}"
        ));
    }
    for GatePart { name, mean, quantiles_05_50_95: [low, middle, high] } in &shown.gates {
        result(format!(
            "{name:<28} keeps {mean:.3} of the state (5 %: {low:.3}, 50 %: {middle:.3}, 95 %: {high:.3})"
        ));
    }
    Ok(())
}

fn diff(a: &Path, b: &Path, as_json: bool) -> Result<()> {
    let ((of_a, info_a), (of_b, info_b)) = (TextState::read(a)?, TextState::read(b)?);
    if info_a.model != info_b.model {
        let (expected, got) = (short(&info_a.model), short(&info_b.model));
        bail!(
            "{}: expected a state of the model {expected}, as {} is, got one of {got}",
            b.display(),
            a.display()
        );
    }
    let of_b: BTreeMap<&str, &Tensor> = vectors(&of_b).collect();
    let pairs = vectors(&of_a).filter_map(|(name, a)| Some((name, a, *of_b.get(name)?)));
    let differences = pairs.map(|(name, a, b)| difference(name, a, b)).collect();
    let compared =
        Compared { model: info_a.model, num_tokens: [info_a.num_tokens, info_b.num_tokens], differences };
    if as_json {
        result(serde_json::to_string_pretty(&compared)?);
        return Ok(());
    }
    let [a, b] = compared.num_tokens.map(exact);
    result(format!("after {a} and {b} tokens, of the model {}", short(&compared.model)));
    result(format!("{:<28} {:>10} {:>12} {:>13}", "", "relative", "mean cosine", "least cosine"));
    for Difference { name, relative, mean_cosine, min_cosine } in &compared.differences {
        result(format!("{name:<28} {relative:>10.4} {mean_cosine:>12.4} {min_cosine:>13.4}"));
    }
    Ok(())
}

fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// Returns the tensors that are vectors of numbers, in the order of their layers.
fn vectors(tensors: &BTreeMap<String, Tensor>) -> impl Iterator<Item = (&str, &Tensor)> {
    let layer = |name: &str| name.split('.').nth(1).and_then(|idx| idx.parse::<usize>().ok());
    let mut parts: Vec<_> =
        tensors.iter().filter(|(name, x)| layer(name).is_some() && x.kind() == Kind::Float).collect();
    parts.sort_by_key(|(name, _)| (layer(name), (*name).clone()));
    parts.into_iter().map(|(name, x)| (name.as_str(), x))
}

/// Returns all vectors along the last axis, `[num, width]`.
fn rows(x: &Tensor) -> Tensor {
    let width = x.size().last().copied().unwrap_or(1).max(1);
    x.reshape([-1, width]).to_kind(Kind::Double)
}

fn norms(rows: &Tensor) -> Tensor {
    rows.square().sum_dim_intlist(-1, false, Kind::Double).sqrt()
}

fn part(name: &str, x: &Tensor) -> Part {
    let rows = rows(x);
    let (norms, num) = (norms(&rows), rows.size()[0]);
    let is_empty = num == 0;
    let value = |x: Tensor| if is_empty { 0. } else { x.double_value(&[]) };
    // The sum of all pairs' cosines is the square of the sum of unit vectors, those of vectors with themselves included.
    let unit = &rows / norms.clamp_min(1e-30).unsqueeze(1);
    let sum = unit.sum_dim_intlist(0, false, Kind::Double).square().sum(Kind::Double).double_value(&[]);
    let own = unit.square().sum(Kind::Double).double_value(&[]);
    let pairs = (num * (num - 1)) as f64;
    Part {
        name: name.to_owned(),
        shape: x.size(),
        mean_norm: if is_empty { 0. } else { value(norms.mean(Kind::Double)) },
        min_norm: if is_empty { 0. } else { value(norms.min()) },
        max_norm: if is_empty { 0. } else { value(norms.max()) },
        mean_cosine: (num > 1).then(|| (sum - own) / pairs),
    }
}

fn difference(name: &str, a: &Tensor, b: &Tensor) -> Difference {
    let (a, b) = (rows(a), rows(b));
    let length = |x: &Tensor| x.square().sum(Kind::Double).sqrt().double_value(&[]);
    let cosines =
        (&a * &b).sum_dim_intlist(-1, false, Kind::Double) / (norms(&a) * norms(&b)).clamp_min(1e-30);
    let is_empty = a.numel() == 0;
    Difference {
        name: name.to_owned(),
        relative: length(&(&a - &b)) / length(&a).max(1e-30),
        mean_cosine: if is_empty { 1. } else { cosines.mean(Kind::Double).double_value(&[]) },
        min_cosine: if is_empty { 1. } else { cosines.min().double_value(&[]) },
    }
}

/// Returns the fixed gates of a run, whose model the state must be of.
fn gates(state: &Path, run: &Path) -> Result<Vec<GatePart>> {
    let (model, _) = super::load_model(run, Device::Cpu)?;
    TextState::load(state, &model)?;
    let named = model.params().named();
    let gates = named.iter().filter(|(name, _)| name.ends_with("gate_bias") && name.contains(".cell."));
    let gate = |(name, bias): &(String, Tensor)| {
        let sorted = bias.detach().sigmoid().to_kind(Kind::Double).sort(0, false).0;
        let last = (sorted.numel() - 1) as f64;
        let quantile = |part: f64| sorted.double_value(&[(last * part).round() as i64]);
        GatePart {
            name: name.clone(),
            mean: sorted.mean(Kind::Double).double_value(&[]),
            quantiles_05_50_95: [0.05, 0.5, 0.95].map(quantile),
        }
    };
    Ok(gates.map(gate).collect())
}
