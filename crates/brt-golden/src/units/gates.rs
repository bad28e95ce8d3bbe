//! Gates, gated feed-forward layers, and what follows attention in a layer or a cell.

use anyhow::{Context, Result, bail};
use brt_cell::{CellConfig, CellLayout, FixedGate, FullGate, Gate, LstmGate, Update};
use brt_lm::{Carry, Mode, PositionConfig, QkNorm, Temperature};
use brt_ops::{CrossQueries, Linear, Params, Scope, init::Init};
use brt_txl::{LayerConfig, TransformerLayer};
use tch::Tensor;

use super::{layer, load, swap, width, word_after};
use crate::golden::Golden;

/// A gate of any kind, or the plain sum.
enum Combine {
    Residual,
    Fixed(FixedGate),
    Lstm(LstmGate),
    Full(FullGate),
}

impl Combine {
    /// `name`: that of the official code.
    fn new(p: &Scope, name: &str, in_dim: i64, model_dim: i64) -> Result<Self> {
        Ok(match name {
            "residual" => Self::Residual,
            "bias" | "fixed" => Self::Fixed(FixedGate::new(p, model_dim)),
            "lstm" => Self::Lstm(LstmGate::new(p, in_dim, model_dim)),
            "full" => Self::Full(FullGate::new(p, in_dim, model_dim)),
            other => bail!("{other}: expected residual, bias, lstm or full"),
        })
    }

    fn forward(&self, state: &Tensor, update: &Tensor, hidden: &Tensor) -> Tensor {
        match self {
            Self::Residual => state + update,
            Self::Fixed(gate) => gate.forward(state, update),
            Self::Lstm(gate) => gate.forward(state, update, hidden),
            Self::Full(gate) => gate.forward(state, update, hidden),
        }
    }
}

pub(super) fn gates(golden: &Golden) -> Result<()> {
    let [hidden, state, update] =
        [golden.tensor("in.hidden")?, golden.tensor("in.state")?, golden.tensor("in.update")?];
    for case in golden.cases("out") {
        let params = Params::new(1, golden.device);
        let p = layer(&params) / "cell" / "ffn_gate";
        let gate = Combine::new(&p, &case, width(&hidden), width(&state))?;
        let (prefix, scope) = (format!("{case}.param."), "transformer0/recurrent_tbase/ffn/");
        load(golden, &prefix, scope, &params, &PositionConfig::PAPER, &[])?;
        golden.check(&format!("{case}.out"), &gate.forward(&state, &update, &hidden))?;
    }
    Ok(())
}

pub(super) fn mlps(golden: &Golden) -> Result<()> {
    let (x, state) = (golden.tensor("in.x")?, golden.tensor("in.state")?);
    for case in golden.cases("out") {
        let meaning = golden.meaning(&format!("{case}.out"));
        let params = Params::new(1, golden.device);
        let cell = layer(&params) / "cell";
        let has_bias = word_after(meaning, "bias ") == Some("True");
        let linear = |name: &str, in_dim: i64, out_dim: i64| {
            let p = &cell / "ffn" / name;
            match has_bias {
                true => Linear::with_bias(&p, in_dim, out_dim, 1., Init::Zeros),
                false => Linear::new(&p, in_dim, out_dim),
            }
        };
        let hidden_layer = match word_after(meaning, "layers ") {
            Some("2") => Some(linear("hidden", width(&x), golden.int("hidden")?)),
            _ => None,
        };
        let hidden_dim = if hidden_layer.is_some() { golden.int("hidden")? } else { width(&x) };
        let out_layer = linear("out", hidden_dim, width(&state));
        let gate_name = word_after(meaning, "gate ").context("a gate in the meaning")?;
        let gate = Combine::new(&(&cell / "ffn_gate"), gate_name, hidden_dim, width(&state))?;
        let (prefix, scope) = (format!("{case}.param."), "transformer0/recurrent_tbase/ffn/");
        let biases = ["ffn.hidden.bias", "ffn.out.bias"];
        load(golden, &prefix, scope, &params, &PositionConfig::PAPER, &biases)?;
        for (name, parameter) in params.named() {
            for (ours, official) in biases.iter().zip(["hidden0.bias", "output_layer.bias"]) {
                if name.ends_with(ours) {
                    parameter.detach().copy_(&golden.tensor(&format!("{prefix}{official}"))?);
                }
            }
        }
        let hidden = hidden_layer.map_or(x.shallow_clone(), |layer| layer.forward(&x).relu());
        let z = out_layer.forward(&hidden);
        let z = if word_after(meaning, "final activation ") == Some("tanh") { z.tanh() } else { z };
        golden.check(&format!("{case}.out"), &gate.forward(&state, &z, &hidden))?;
    }
    Ok(())
}

pub(super) fn post_attention(golden: &Golden) -> Result<()> {
    let (x, attn, cross) =
        (golden.tensor("in.x")?, golden.tensor("in.attn")?, golden.tensor("in.cross_attn")?);
    for case in golden.cases("out") {
        let got = match case.as_str() {
            "residual_self" => residual(golden, &case, &x, &[&attn])?,
            "residual_cross" => residual(golden, &case, &x, &[&attn, &cross])?,
            _ => {
                let read = Tensor::cat(&[&attn, &cross], 2).flatten(2, 3); // [B, S, 2HD]
                update(golden, &case)?.forward(&x, &read)
            }
        };
        golden.check(&format!("{case}.out"), &got)?;
    }
    Ok(())
}

/// What an ordinary layer makes of what its tokens read.
fn residual(golden: &Golden, case: &str, x: &Tensor, attended: &[&Tensor]) -> Result<Tensor> {
    let config = LayerConfig {
        model_dim: golden.int("d_model")?,
        num_heads: golden.int("num_heads")?,
        head_dim: golden.int("head_dim")?,
        ffn_dim: golden.int("mlp_dim")?,
        qk_norm: QkNorm::Unit,
        temperature: Temperature::Absolute,
        carry: Carry::Differentiable,
        position: PositionConfig::None {},
        cross_queries: if attended.len() == 2 { CrossQueries::Present } else { CrossQueries::Absent },
        dropout: 0.,
        attention_dropout: 0.,
    };
    let params = Params::new(1, golden.device);
    let transformer = TransformerLayer::new(&layer(&params), config);
    let projection = ["temperature", "norm.weight", "key.weight", "value.weight", "query.weight"]
        .map(|name| format!("attention.{name}"));
    let mut left_out: Vec<&str> = projection.iter().map(String::as_str).collect();
    left_out.extend(["attention.cross_query.weight", "attention.cross_temperature"]);
    let prefix = format!("{case}.param.");
    load(golden, &prefix, "transformer0/tbase/", &params, &PositionConfig::PAPER, &left_out)?;
    let attended: Vec<Tensor> = attended.iter().map(|a| swap(a).unsqueeze(0)).collect();
    Ok(transformer.finish(&x.unsqueeze(0), &attended, Mode::Eval).squeeze_dim(0))
}

/// The update of a cell, by the case's name: `lstm_dual`.
fn update(golden: &Golden, case: &str) -> Result<Update> {
    let (gate, layout) = match case.split_once('_') {
        Some(("fixed", layout)) => (Gate::Fixed, layout),
        Some(("lstm", layout)) => (Gate::Lstm, layout),
        _ => bail!("{case}: expected fixed_* or lstm_*"),
    };
    let config = CellConfig {
        gate,
        layout: match layout {
            "dual" => CellLayout::Dual,
            "single" => CellLayout::Single,
            "skip" => CellLayout::Skip,
            _ => bail!("{case}: expected *_dual, *_single or *_skip"),
        },
        num_states: golden.int("num_states")?,
        model_dim: golden.int("d_model")?,
        num_heads: golden.int("num_heads")?,
        head_dim: golden.int("head_dim")?,
        ffn_dim: golden.int("mlp_dim")?,
        qk_norm: QkNorm::Unit,
        temperature: Temperature::Absolute,
    };
    let params = Params::new(1, golden.device);
    let update = Update::new(&(layer(&params) / "cell"), &config);
    let prefix = format!("{case}.param.");
    load(golden, &prefix, "transformer0/recurrent_tbase/", &params, &PositionConfig::PAPER, &[])?;
    Ok(update)
}
