//! Single operations: norms, projections, attention, position information, gates, losses.

use anyhow::{Context, Result, bail, ensure};
use brt_cell::{CellConfig, CellLayout, FixedGate, FullGate, Gate, LstmGate, Update};
use brt_data::SegmentBatch;
use brt_lm::{Carry, Mode, PositionConfig, QkNorm, Temperature, official::official_path};
use brt_ops::{
    CrossQueries, LayerNorm, Linear, LogitTerms, Params, PositionBias, Projection, ProjectionConfig, RmsNorm,
    Scope, WindowShape, WindowTables, attention, causal_mask,
    init::Init,
    loss,
    position::{AlibiBound, Buckets, absolute_encoding, position_encoding},
    reference_attention, safe_softmax, unit_norm,
};
use brt_txl::{LayerConfig, TransformerLayer};
use tch::{Device, Kind, Tensor};

use crate::golden::Golden;

const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Checks the file `unit_<kind>`.
pub(crate) fn check(golden: &Golden, kind: &str) -> Result<()> {
    match kind {
        "norm" => norm(golden),
        "kvq" => projections(golden),
        "softmax_mask" => softmax_and_masks(golden),
        "attention" => attentions(golden),
        "t5_bias" => t5_bias(golden),
        "positions" => positions(golden),
        "gates" => gates(golden),
        "mlp" => mlps(golden),
        "post_attention" => post_attention(golden),
        "loss" => losses(golden),
        other => bail!("unit_{other}: expected a known kind of operation"),
    }
}

/// Swaps heads and sequence: `[.., len, H, D]` in the files, `[.., H, len, D]` here.
fn swap(x: &Tensor) -> Tensor {
    x.transpose(-3, -2)
}

/// Returns the width of the last axis.
fn width(x: &Tensor) -> i64 {
    x.size().last().copied().unwrap_or(0)
}

/// The part of a model that a file is about: `layers.0`.
fn layer(params: &Params) -> Scope<'_> {
    params.root() / "layers" / 0
}

/// Copies `<prefix><official name>` into every parameter, official paths being taken behind `scope`. Parameters whose
/// names end in one of `left_out` stay as they are.
fn load(
    golden: &Golden,
    prefix: &str,
    scope: &str,
    params: &Params,
    position: &PositionConfig,
    left_out: &[&str],
) -> Result<()> {
    for (name, parameter) in params.named() {
        if left_out.iter().any(|suffix| name.ends_with(suffix)) {
            continue;
        }
        let path = official_path(&name, position).with_context(|| format!("{name}: no official name"))?;
        let short = path.strip_prefix(scope).with_context(|| format!("{path}: not in {scope}"))?;
        let value = golden.tensor(&format!("{prefix}{}", short.replace('/', ".")))?;
        let value = brt_lm::official::swap_layout(&path, &value);
        ensure!(value.size() == parameter.size(), "{name}: expected {:?}, got {value:?}", parameter.size());
        tch::no_grad(|| parameter.shallow_clone().copy_(&value));
    }
    Ok(())
}

fn norm(golden: &Golden) -> Result<()> {
    let x = golden.tensor("in.x")?;
    let params = Params::new(1, Device::Cpu);
    let rms = RmsNorm::new(&(params.root() / "rms"), width(&x));
    let mean = LayerNorm::new(&(params.root() / "mean"), width(&x));
    for (name, parameter) in params.named() {
        let official = name.replace("weight", "scale").replace('.', ".param.");
        parameter.detach().copy_(&golden.tensor(&official)?);
    }
    golden.check("rms.out", &rms.forward(&x))?;
    golden.check("mean.out", &mean.forward(&x))?;
    golden.check("normalize_kq.out", &unit_norm(&golden.tensor("normalize_kq.in.x")?))
}

fn projections(golden: &Golden) -> Result<()> {
    let x = golden.tensor("in.x")?;
    for case in golden.cases("out.keys") {
        let has = |name: &str| golden.has(&format!("{case}.param.{name}"));
        let config = ProjectionConfig {
            model_dim: golden.int("d_model")?,
            num_heads: golden.int("num_heads")?,
            head_dim: golden.int("head_dim")?,
            qk_norm: if has("attention_scale") { QkNorm::Unit } else { QkNorm::None },
            temperature: Temperature::Absolute,
            num_states: has("position_embeddings").then(|| golden.int("num_states")).transpose()?,
            cross_queries: match has("queries2_layer.kernel") {
                true => CrossQueries::Present,
                false => CrossQueries::Absent,
            },
        };
        let params = Params::new(1, Device::Cpu);
        let projection = Projection::new(&(layer(&params) / "attention"), config);
        // The files' queries are not scaled yet: temperatures stay one.
        let (prefix, scope) = (format!("{case}.param."), "transformer0/tbase/_kvq/");
        load(golden, &prefix, scope, &params, &PositionConfig::PAPER, &["temperature"])?;
        let got = projection.forward(&x, |u| u);
        golden.check(&format!("{case}.out.keys"), &swap(&got.keys))?;
        golden.check(&format!("{case}.out.values"), &swap(&got.values))?;
        golden.check(&format!("{case}.out.queries"), &swap(&got.queries))?;
        if let Some(cross_queries) = &got.cross_queries {
            golden.check(&format!("{case}.out.queries2"), &swap(cross_queries))?;
        }
    }
    Ok(())
}

fn softmax_and_masks(golden: &Golden) -> Result<()> {
    golden.check("softmax.out", &safe_softmax(&golden.tensor("softmax.in.x")?))?;
    for name in golden.names("causal_mask.").map(str::to_string).collect::<Vec<_>>() {
        let numbers: Option<Vec<i64>> = name.split('_').map(|part| part.get(1..)?.parse().ok()).collect();
        let Some(&[q, k, w]) = numbers.as_deref() else { bail!("causal_mask.{name}: expected qQ_kK_wW") };
        let window_len = if w == 0 { q } else { w };
        golden.check(&format!("causal_mask.{name}"), &causal_mask([q, k, k - q], window_len, Device::Cpu))?;
    }
    Ok(())
}

fn attentions(golden: &Golden) -> Result<()> {
    for case in golden.cases("out") {
        let input = |name: &str| golden.tensor(&format!("{case}.in.{name}"));
        let optional = |name: &str| golden.has(&format!("{case}.in.{name}")).then(|| input(name)).transpose();
        let [q, k, v] = [swap(&input("queries")?), swap(&input("keys")?), swap(&input("values")?)];
        let bias = optional("bias")?.map(|b| b.squeeze_dim(0));
        let (temperature, mask, multiplier) =
            (optional("scale")?, optional("mask")?, optional("dropout_multiplier")?);
        let terms = LogitTerms {
            bias: bias.as_ref(),
            temperature: temperature.as_ref(),
            mask: mask.as_ref(),
            multiplier: multiplier.as_ref(),
        };
        golden.check(&format!("{case}.out"), &swap(&reference_attention(&q, &k, &v, &terms)))?;

        // The fast path: temperature in the queries and the bias, mask in the bias, blind queries cleared.
        let factor = temperature.as_ref().map_or(Tensor::from(1f32), |a| a.view([-1, 1, 1]));
        let shape = [q.size()[1], q.size()[2], k.size()[2]];
        let mut bias = bias.unwrap_or_else(|| Tensor::zeros(shape, OPTIONS)) * &factor;
        if let Some(mask) = &mask {
            bias = bias.where_scalarother(mask, -1e6);
        }
        let mut got = attention(&(&q * &factor), &k, &v, Some(&bias), multiplier.as_ref());
        if let Some(mask) = &mask {
            got = got * mask.any_dim(1, true);
        }
        golden.check(&format!("{case}.out"), &swap(&got))?;
    }
    Ok(())
}

fn t5_bias(golden: &Golden) -> Result<()> {
    let relative: Vec<i64> = golden.tensor("bucket.relative_position")?.try_into()?;
    let of = |buckets: Buckets, bidirectional: bool, distance: i64| match bidirectional {
        true => buckets.bidirectional(distance),
        false => buckets.causal(distance),
    };
    for name in golden.names("bucket.n").map(str::to_string).collect::<Vec<_>>() {
        let parts: Vec<&str> = name.split('_').collect();
        let &[num_buckets, max_distance, direction] = parts.as_slice() else { bail!("bucket.n{name}") };
        let max_distance = max_distance.trim_start_matches('d').parse()?;
        let buckets = Buckets { num_buckets: num_buckets.parse()?, max_distance };
        let got: Vec<i64> = relative.iter().map(|r| of(buckets, direction == "bi", -r)).collect();
        golden.check(&format!("bucket.n{name}"), &Tensor::from_slice(&got))?;
    }

    let (num_heads, window_len) = (golden.int("num_heads")?, golden.int("window")?);
    let (num_buckets, max_distance) = (golden.int("num_buckets")?, golden.int("max_distance")?);
    let position = PositionConfig::T5 { num_buckets, max_distance };
    let params = Params::new(1, Device::Cpu);
    let bias =
        PositionBias::new(&(layer(&params) / "position_bias"), &position, num_heads).context("a bias")?;
    load(golden, "param.", RELATIVE, &params, &position, &[])?;
    for case in golden.cases("bucket").iter().filter_map(|case| case.strip_prefix("bias.")) {
        let meaning = golden.meaning(&format!("bias.{case}.out"));
        let size = golden.tensor(&format!("bias.{case}.bucket"))?.size();
        let (num_queries, num_keys) = (size[0], size[1]);
        let offset = word_after(meaning, "], offset ").and_then(|word| word.parse().ok());
        let offset = offset.unwrap_or(num_keys - num_queries);
        let bidirectional = word_after(meaning, "bidirectional ") == Some("True");
        let distances = (0..num_queries).flat_map(|i| (0..num_keys).map(move |j| i + offset - j));
        let buckets: Vec<i64> =
            distances.map(|d| of(Buckets { num_buckets, max_distance }, bidirectional, d)).collect();
        let buckets = Tensor::from_slice(&buckets);
        golden.check(&format!("bias.{case}.bucket"), &buckets.view([num_queries, num_keys]))?;
        let got = if bidirectional {
            golden
                .tensor("param.rel_embedding")?
                .index_select(1, &buckets)
                .unflatten(1, [num_queries, num_keys])
        } else {
            let shape = WindowShape { num_queries, num_keys, offset, window_len };
            WindowTables::new(shape, &position, 1, Device::Cpu).bias(&bias)
        };
        golden.check(&format!("bias.{case}.out"), &got.unsqueeze(0))?;
    }
    Ok(())
}

/// Where the official code has a layer's position information.
const RELATIVE: &str = "transformer0/relative_positions/";

/// Returns the word behind `key` in a text, commas ending words.
fn word_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key)?.1.split([',', ' ', '}']).next()
}

fn positions(golden: &Golden) -> Result<()> {
    let (window_len, head_dim) = (golden.int("window")?, golden.int("head_dim")?);
    let (segment_len, model_dim) = (golden.int("segment")?, golden.int("d_model")?);
    let max_half_wavelength = 10_000.;
    let rotary = PositionConfig::Rotary { max_half_wavelength };
    let tables = WindowTables::new(WindowShape::block(window_len), &rotary, head_dim, Device::Cpu);
    let input = |name: &str| Ok::<_, anyhow::Error>(swap(&golden.tensor(&format!("rotary.in.{name}"))?));
    let (queries, keys) = tables.rotate(&input("queries")?, &input("keys")?);
    golden.check("rotary.out.queries", &swap(&queries))?;
    golden.check("rotary.out.keys", &swap(&keys))?;
    let around = absolute_encoding(-window_len, 2 * window_len, head_dim, max_half_wavelength, Device::Cpu);
    golden.check("rotary.table", &around)?;
    let absolute = absolute_encoding(0, segment_len, model_dim, max_half_wavelength, Device::Cpu);
    golden.check("absolute.table", &absolute)?;
    let table = golden.tensor("encoding_default_wavelength.table")?;
    let offset = golden.meaning("encoding_default_wavelength.table");
    let offset: i64 =
        word_after(offset, "offset=").and_then(|o| o.trim_end_matches("):").parse().ok()).unwrap_or(3);
    let from = Tensor::arange_start(offset, offset + table.size()[0], OPTIONS);
    let got = position_encoding(&from, width(&table), 2. * window_len as f64);
    golden.check("encoding_default_wavelength.table", &got)?;

    for case in golden.cases("out").into_iter().filter(|case| !case.starts_with("rotary")) {
        let family = case.strip_suffix(".decode").unwrap_or(&case);
        relative_bias(golden, &case, family, relative_position(golden, family)?)?;
    }
    Ok(())
}

/// Returns the kind of position information that a family of cases is about.
fn relative_position(golden: &Golden, family: &str) -> Result<PositionConfig> {
    let shape = |name: &str| golden.tensor(&format!("{family}.param.{name}")).map(|t| t.size());
    Ok(match family.split('.').next() {
        Some("fourier") => PositionConfig::Fourier { vector_len: shape("rotation_matrix")?[1] },
        Some("alibi") => PositionConfig::Alibi {
            bound: match shape("bound") {
                Ok(size) if size == [1] => AlibiBound::Shared,
                Ok(_) => AlibiBound::PerHead,
                Err(_) => {
                    let meaning = golden.meaning(&format!("{family}.out"));
                    let bound = word_after(meaning, "'fixed_bound': ").and_then(|word| word.parse().ok());
                    AlibiBound::Fixed(bound.context("a fixed bound in the meaning")?)
                }
            },
        },
        Some("nn") => PositionConfig::Neural { num_hidden: shape("bias")?[0] },
        Some("ortho_asinh") => PositionConfig::Orthogonal {
            num_functions: shape("orthogonal_basis_coeffs")?[0],
            last_shift: 64.,
        },
        _ => bail!("{family}: expected a known kind of position information"),
    })
}

fn relative_bias(golden: &Golden, case: &str, family: &str, position: PositionConfig) -> Result<()> {
    let window_len = golden.int("window")?;
    let params = Params::new(1, Device::Cpu);
    let p = layer(&params) / "position_bias";
    let bias = PositionBias::new(&p, &position, golden.int("num_heads")?).context("a kind with a bias")?;
    let scope = match position {
        PositionConfig::Alibi { .. } => format!("{RELATIVE}_wrapped_module/"),
        _ => RELATIVE.into(),
    };
    load(golden, &format!("{family}.param."), &scope, &params, &position, &[])?;
    let size = golden.tensor(&format!("{case}.out"))?.size();
    let (num_queries, num_keys) = (size[2], size[3]);
    let offset = word_after(golden.meaning(&format!("{case}.out")), "offset = ");
    let offset = if offset.is_some() { window_len } else { num_keys - num_queries };
    let shape = WindowShape { num_queries, num_keys, offset, window_len };
    let tables = WindowTables::new(shape, &position, 1, Device::Cpu);
    golden.check(&format!("{case}.out"), &tables.bias(&bias).unsqueeze(0))
}

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

fn gates(golden: &Golden) -> Result<()> {
    let [hidden, state, update] =
        [golden.tensor("in.hidden")?, golden.tensor("in.state")?, golden.tensor("in.update")?];
    for case in golden.cases("out") {
        let params = Params::new(1, Device::Cpu);
        let p = layer(&params) / "cell" / "ffn_gate";
        let gate = Combine::new(&p, &case, width(&hidden), width(&state))?;
        let (prefix, scope) = (format!("{case}.param."), "transformer0/recurrent_tbase/ffn/");
        load(golden, &prefix, scope, &params, &PositionConfig::PAPER, &[])?;
        golden.check(&format!("{case}.out"), &gate.forward(&state, &update, &hidden))?;
    }
    Ok(())
}

fn mlps(golden: &Golden) -> Result<()> {
    let (x, state) = (golden.tensor("in.x")?, golden.tensor("in.state")?);
    for case in golden.cases("out") {
        let meaning = golden.meaning(&format!("{case}.out"));
        let params = Params::new(1, Device::Cpu);
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

fn post_attention(golden: &Golden) -> Result<()> {
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
    let params = Params::new(1, Device::Cpu);
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
    let params = Params::new(1, Device::Cpu);
    let update = Update::new(&(layer(&params) / "cell"), &config);
    let prefix = format!("{case}.param.");
    load(golden, &prefix, "transformer0/recurrent_tbase/", &params, &PositionConfig::PAPER, &[])?;
    Ok(update)
}

fn losses(golden: &Golden) -> Result<()> {
    let (tokens, logits) = (golden.tensor("in.tokens")?, golden.tensor("in.logits")?);
    let rows: Vec<Vec<i64>> = (&tokens).try_into()?;
    let rows: Vec<Vec<u16>> = rows.iter().map(|row| row.iter().map(|&t| t as u16).collect()).collect();
    let rows: Vec<&[u16]> = rows.iter().map(Vec::as_slice).collect();
    let mut batch = SegmentBatch::of_segments(&rows, &vec![true; rows.len()], tokens.size()[1] as usize);
    batch.restrict(&Vec::<bool>::try_from(golden.tensor("in.loss_mask")?.reshape(-1))?);
    let targets = Tensor::from_slice(&batch.targets).view_as(&tokens);
    let mask = Tensor::from_slice(&batch.loss_mask).view_as(&tokens);
    golden.check("out.targets", &targets)?;
    golden.check("out.loss_mask", &mask.to_kind(Kind::Bool))?;
    golden.check("out.token_loss", &loss::cross_entropy(&logits, &targets, &mask.ones_like()))?;
    golden.check("out.token_entropy", &loss::entropy(&logits))?;
    golden.check("out.loss_sum", &loss::cross_entropy(&logits, &targets, &mask).sum(Kind::Float).view(1))
}
