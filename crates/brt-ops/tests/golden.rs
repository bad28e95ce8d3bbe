//! Operations against the numbers of the official code. `tests/golden/README.md` says where they come from.

use std::path::Path;

use brt_ops::{
    CrossQueries, LogitTerms, Params, Projection, ProjectionConfig, QkNorm, RmsNorm, T5Bias, Temperature,
    WindowTables, attention, attention::mask_bias, causal_mask, golden::Golden, loss, position::Buckets,
    reference_attention, safe_softmax, unit_norm,
};
use tch::{Device, Kind, Tensor};

fn open(name: &str) -> Golden {
    Golden::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), name)
}

/// `[.., len, H, D]` of the files ↔ `[.., H, len, D]` here.
fn swap(x: &Tensor) -> Tensor {
    x.transpose(-3, -2)
}

#[test]
fn unit_norm_file() {
    let golden = open("unit_norm");
    let params = Params::new(1, Device::Cpu);
    let norm = RmsNorm::new(&params.root(), 32);
    golden.load_params("rms.param.", "", &params, &["weight"]);
    params.named()[0].1.detach().copy_(&golden.tensor("rms.param.scale"));
    golden.check("rms.out", &norm.forward(&golden.tensor("in.x")));
    golden.check("normalize_kq.out", &unit_norm(&golden.tensor("normalize_kq.in.x")));
    golden.finish(&["mean."]); // A norm that subtracts the mean: no configuration of the paper has one.
}

#[test]
fn unit_kvq_file() {
    let golden = open("unit_kvq");
    let cases = [
        ("tokens", QkNorm::Unit, None, CrossQueries::Absent),
        ("tokens_cross", QkNorm::Unit, None, CrossQueries::Present),
        ("states", QkNorm::Unit, Some(20), CrossQueries::Present),
        ("nonorm", QkNorm::None, None, CrossQueries::Present),
    ];
    for (case, qk_norm, num_states, cross_queries) in cases {
        let params = Params::new(1, Device::Cpu);
        let config = ProjectionConfig {
            model_dim: 32,
            num_heads: 4,
            head_dim: 8,
            qk_norm,
            temperature: Temperature::Absolute,
            num_states,
            cross_queries,
        };
        let projection = Projection::new(&(params.root() / "attention"), config);
        // The files' queries are not scaled yet: temperatures stay one.
        let prefix = format!("{case}.param.");
        golden.load_params(&prefix, "attention.", &params, &["temperature"]);
        for (name, parameter) in params.named() {
            if name.ends_with("temperature") {
                let _ = parameter.detach().fill_(1.);
            }
        }
        let got = projection.forward(&golden.tensor("in.x"), |u| u);
        golden.check(&format!("{case}.out.keys"), &swap(&got.keys));
        golden.check(&format!("{case}.out.values"), &swap(&got.values));
        golden.check(&format!("{case}.out.queries"), &swap(&got.queries));
        if let Some(cross_queries) = &got.cross_queries {
            golden.check(&format!("{case}.out.queries2"), &swap(cross_queries));
        }
    }
    golden.finish(&[]);
}

#[test]
fn unit_softmax_mask_file() {
    let golden = open("unit_softmax_mask");
    golden.check("softmax.out", &safe_softmax(&golden.tensor("softmax.in.x")));
    for (q, k, w) in [(16, 32, 16), (16, 16, 16), (5, 9, 3), (4, 4, 4), (3, 12, 7)] {
        golden.check(&format!("causal_mask.q{q}_k{k}_w{w}"), &causal_mask(q, k, w, Device::Cpu));
    }
    golden.check("causal_mask.q16_k32_w0", &causal_mask(16, 32, 16, Device::Cpu));
    golden.finish(&[]);
}

#[test]
fn unit_attention_file() {
    let golden = open("unit_attention");
    let cases = [
        "window",
        "window_doc_start",
        "window_nobias",
        "vanilla",
        "nonorm",
        "dropout",
        "large_scale",
        "state_self",
        "state_cross",
        "token_cross",
    ];
    for case in cases {
        let input = |name: &str| golden.tensor(&format!("{case}.in.{name}"));
        let optional = |name: &str| golden.has(&format!("{case}.in.{name}")).then(|| input(name));
        let [q, k, v] = ["queries", "keys", "values"].map(|name| swap(&input(name)));
        let bias = optional("bias").map(|b| b.squeeze_dim(0));
        let (temperature, mask, multiplier) =
            (optional("scale"), optional("mask"), optional("dropout_multiplier"));
        let terms = LogitTerms {
            bias: bias.as_ref(),
            temperature: temperature.as_ref(),
            mask: mask.as_ref(),
            multiplier: multiplier.as_ref(),
        };
        golden.check(&format!("{case}.out"), &swap(&reference_attention(&q, &k, &v, &terms)));
        if case == "vanilla" {
            continue; // Its first query sees no key: outside the contract of the fast path.
        }
        // The fast path: temperature in the queries and the bias, mask in the bias.
        let factor = temperature.as_ref().map_or(Tensor::from(1.), |a| a.view([-1, 1, 1]));
        let shape = [4, q.size()[2], k.size()[2]];
        let bias = bias.unwrap_or_else(|| Tensor::zeros(shape, (Kind::Float, Device::Cpu))) * &factor;
        let bias = mask.as_ref().map_or(bias.shallow_clone(), |mask| mask_bias(&bias, mask));
        let got = attention(&(&q * &factor), &k, &v, Some(&bias), multiplier.as_ref());
        golden.check(&format!("{case}.out"), &swap(&got));
    }
    golden.finish(&[]);
}

#[test]
fn unit_t5_bias_file() {
    let golden = open("unit_t5_bias");
    let relative: Vec<i64> = golden.tensor("bucket.relative_position").try_into().unwrap();
    for (num_buckets, max_distance) in [(32, 128), (16, 64), (8, 20), (48, 300), (32, 512)] {
        for (name, bidirectional) in [("causal", false), ("bi", true)] {
            let buckets = Buckets { num_buckets, max_distance };
            let bucket =
                |&r: &i64| if bidirectional { buckets.bidirectional(-r) } else { buckets.causal(-r) };
            let got: Vec<i64> = relative.iter().map(bucket).collect();
            golden.check(&format!("bucket.n{num_buckets}_d{max_distance}_{name}"), &Tensor::from_slice(&got));
        }
    }
    let params = Params::new(1, Device::Cpu);
    let bias = T5Bias::new(&(params.root() / "position_bias"), 4);
    params.named()[0].1.detach().copy_(&golden.tensor("param.rel_embedding"));
    let cases = [
        ("window", WindowTables::block(16, Device::Cpu)),
        ("vanilla", WindowTables::new(16, 16, 16, Device::Cpu)),
        ("decode", WindowTables::token(16, Device::Cpu)),
        ("wide", WindowTables::block(64, Device::Cpu)),
    ];
    for (case, tables) in cases {
        golden.check(&format!("bias.{case}.out"), &bias.forward(&tables).unsqueeze(0));
        golden.check(&format!("bias.{case}.bucket"), &tables.buckets());
    }
    golden.finish(&["bias.bidirectional"]); // An encoder's: no model of the paper has one.
}

#[test]
fn unit_loss_file() {
    let golden = open("unit_loss");
    let (targets, mask) = (golden.tensor("out.targets"), golden.tensor("out.loss_mask"));
    let logits = golden.tensor("in.logits");
    let nats = |mask: &Tensor| loss::cross_entropy(&logits, &targets, &mask.to_kind(Kind::Float));
    golden.check("out.token_loss", &nats(&mask.ones_like()));
    golden.check("out.loss_sum", &nats(&mask).sum(Kind::Float).view(1));
    // Targets and masks are made by brt-data, whose tests give them by hand; entropy is not a metric of ours.
    golden.finish(&["out.targets", "out.loss_mask", "out.token_entropy"]);
}
