//! Single operations: norms, projections, attention, losses here; position information and gates beside.

mod gates;
mod positions;

use anyhow::{Context, Result, bail, ensure};
use brt_lm::{PositionConfig, QkNorm, Temperature, official::official_path};
use brt_ops::{
    CrossQueries, LayerNorm, LogitTerms, Params, Projection, ProjectionConfig, RmsNorm, Scope, causal_mask,
    composed_attention, loss, reference_attention, safe_softmax, unit_norm,
};
use tch::{Kind, Tensor};

use crate::{golden::Golden, models::Segment};

/// Checks the file `unit_<kind>`.
pub(crate) fn check(golden: &Golden, kind: &str) -> Result<()> {
    match kind {
        "norm" => norm(golden),
        "kvq" => projections(golden),
        "softmax_mask" => softmax_and_masks(golden),
        "attention" => attentions(golden),
        "t5_bias" => positions::t5_bias(golden),
        "positions" => positions::positions(golden),
        "gates" => gates::gates(golden),
        "mlp" => gates::mlps(golden),
        "post_attention" => gates::post_attention(golden),
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

/// Returns the word behind `key` in a text, commas ending words.
fn word_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key)?.1.split([',', ' ', '}']).next()
}

fn norm(golden: &Golden) -> Result<()> {
    let x = golden.tensor("in.x")?;
    let params = Params::new(1, golden.device);
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
        let params = Params::new(1, golden.device);
        let projection = Projection::new(&(layer(&params) / "attention"), config);
        // The files' queries are not scaled yet: temperatures stay one.
        let (prefix, scope) = (format!("{case}.param."), "transformer0/tbase/_kvq/");
        load(golden, &prefix, scope, &params, &PositionConfig::PAPER, &["temperature"])?;
        let got = projection.forward(&x, |u| u);
        golden.check(&format!("{case}.out.keys"), &swap(&got.keys))?;
        golden.check(&format!("{case}.out.values"), &swap(&got.values))?;
        golden.check(&format!("{case}.out.queries"), &swap(&got.queries.heads))?;
        if let Some(cross_queries) = &got.cross_queries {
            golden.check(&format!("{case}.out.queries2"), &swap(&cross_queries.heads))?;
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
        golden
            .check(&format!("causal_mask.{name}"), &causal_mask([q, k, k - q], window_len, golden.device))?;
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

        // As layers compose it: temperature in the queries and the bias, mask in the bias, blind queries cleared.
        let factor = temperature.as_ref().map_or(Tensor::from(1f32), |a| a.view([-1, 1, 1]));
        let shape = [q.size()[1], q.size()[2], k.size()[2]];
        let mut bias = bias.unwrap_or_else(|| Tensor::zeros(shape, golden.options())) * &factor;
        if let Some(mask) = &mask {
            bias = bias.where_scalarother(mask, -1e6);
        }
        let mut got = composed_attention(&(&q * &factor), &k, &v, Some(&bias), multiplier.as_ref());
        if let Some(mask) = &mask {
            got = got * mask.any_dim(1, true);
        }
        golden.check(&format!("{case}.out"), &swap(&got))?;
    }
    Ok(())
}

fn losses(golden: &Golden) -> Result<()> {
    let Segment { targets, mask, .. } = Segment::read(golden, "")?;
    let logits = golden.tensor("in.logits")?;
    golden.check("out.targets", &targets)?;
    golden.check("out.loss_mask", &mask.to_kind(Kind::Bool))?;
    golden.check("out.token_loss", &loss::cross_entropy(&logits, &targets, &mask.ones_like()))?;
    golden.check("out.token_entropy", &loss::entropy(&logits))?;
    golden.check("out.loss_sum", &loss::cross_entropy(&logits, &targets, &mask).sum(Kind::Float).view(1))
}
