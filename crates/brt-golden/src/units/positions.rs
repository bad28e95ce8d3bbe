//! Position information: buckets, biases, rotations, encodings.

use anyhow::{Context, Result, bail};
use brt_lm::PositionConfig;
use brt_ops::{
    Params, PositionBias, WindowShape, WindowTables,
    position::{AlibiBound, Buckets, absolute_encoding, position_encoding},
};
use tch::Tensor;

use super::{layer, load, swap, width, word_after};
use crate::golden::Golden;

pub(super) fn t5_bias(golden: &Golden) -> Result<()> {
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
    let params = Params::new(1, golden.device);
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
        let buckets = Tensor::from_slice(&buckets).to_device(golden.device);
        golden.check(&format!("bias.{case}.bucket"), &buckets.view([num_queries, num_keys]))?;
        let got = if bidirectional {
            golden
                .tensor("param.rel_embedding")?
                .index_select(1, &buckets)
                .unflatten(1, [num_queries, num_keys])
        } else {
            let shape = WindowShape { num_queries, num_keys, offset, window_len };
            WindowTables::new(shape, &position, 1, golden.device).bias(&bias)
        };
        golden.check(&format!("bias.{case}.out"), &got.unsqueeze(0))?;
    }
    Ok(())
}

/// Where the official code has a layer's position information.
const RELATIVE: &str = "transformer0/relative_positions/";

pub(super) fn positions(golden: &Golden) -> Result<()> {
    let (window_len, head_dim) = (golden.int("window")?, golden.int("head_dim")?);
    let (segment_len, model_dim) = (golden.int("segment")?, golden.int("d_model")?);
    let max_half_wavelength = 10_000.;
    let rotary = PositionConfig::Rotary { max_half_wavelength };
    let tables = WindowTables::new(WindowShape::block(window_len), &rotary, head_dim, golden.device);
    let input = |name: &str| Ok::<_, anyhow::Error>(swap(&golden.tensor(&format!("rotary.in.{name}"))?));
    let (queries, keys) = tables.rotate(&input("queries")?, &input("keys")?);
    golden.check("rotary.out.queries", &swap(&queries))?;
    golden.check("rotary.out.keys", &swap(&keys))?;
    let around = absolute_encoding(-window_len, 2 * window_len, head_dim, max_half_wavelength, golden.device);
    golden.check("rotary.table", &around)?;
    let absolute = absolute_encoding(0, segment_len, model_dim, max_half_wavelength, golden.device);
    golden.check("absolute.table", &absolute)?;
    let table = golden.tensor("encoding_default_wavelength.table")?;
    let offset = golden.meaning("encoding_default_wavelength.table");
    let offset: i64 =
        word_after(offset, "offset=").and_then(|o| o.trim_end_matches("):").parse().ok()).unwrap_or(3);
    let from = Tensor::arange_start(offset, offset + table.size()[0], golden.options());
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
    let params = Params::new(1, golden.device);
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
    let tables = WindowTables::new(shape, &position, 1, golden.device);
    golden.check(&format!("{case}.out"), &tables.bias(&bias).unsqueeze(0))
}
