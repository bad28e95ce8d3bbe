//! Optimiser and schedules against the numbers of the official code.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;

use brt_ops::golden::Golden;
use brt_trainer::{Adafactor, AdafactorConfig, Schedule, ScheduleConfig};
use tch::{Kind, Tensor};

fn open(name: &str) -> Golden {
    Golden::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), name)
}

fn check_adafactor(name: &str, parameters: &[&str]) {
    let golden = open(name);
    let config = AdafactorConfig {
        momentum: golden.config()["momentum"].as_f64(),
        decay_exponent: golden.config()["decay_rate"].as_f64().unwrap(),
        weight_decay: golden.config()["weight_decay_rate"].as_f64().unwrap_or(0.),
        ..AdafactorConfig::PAPER
    };
    let initial = |name: &&str| {
        (name.to_string(), golden.tensor(&format!("param0.{name}")).copy().set_requires_grad(true))
    };
    let named: Vec<_> = parameters.iter().map(initial).collect();
    let mut optimizer =
        Adafactor::new(config, named.iter().map(|(n, p)| (n.clone(), p.shallow_clone())).collect());
    let rates: Vec<f64> = golden.tensor("in.learning_rate").to_kind(Kind::Double).try_into().unwrap();
    for (step, rate) in rates.into_iter().enumerate() {
        for (name, parameter) in &named {
            brt_native::drop_gradients([parameter]);
            (parameter * golden.tensor(&format!("step{step}.grad.{name}"))).sum(Kind::Float).backward();
        }
        optimizer.step(rate);
        for (name, parameter) in &named {
            golden.check(&format!("step{step}.param.{name}"), parameter);
        }
    }
    for (name, moment) in optimizer.named() {
        let (parameter, kind) = name.rsplit_once('.').unwrap();
        let official = match kind {
            "row" => "v_row",
            "column" => "v_col",
            "second_moment" => "v",
            kind => kind,
        };
        let file_name = format!("state.{official}.{parameter}");
        if golden.has(&file_name) {
            golden.check(&file_name, &moment);
        }
    }
    golden.finish(&[]);
}

#[test]
fn optim_adafactor_file() {
    let parameters = ["w_big", "w_tall", "w_small", "vec", "vec_big", "tiny", "zeros", "zero_grad", "one"];
    check_adafactor("optim_adafactor", &parameters);
}

#[test]
fn optim_adafactor_nomomentum_file() {
    check_adafactor("optim_adafactor_nomomentum", &["w", "vec", "tiny"]);
}

#[test]
fn optim_adafactor_wd_file() {
    check_adafactor("optim_adafactor_wd", &["w", "vec", "tiny"]);
}

#[test]
fn optim_schedules_file() {
    let golden = open("optim_schedules");
    let steps: Vec<i64> = golden.tensor("in.step").try_into().unwrap();
    let check = |file_name: &str, config: &ScheduleConfig, num_steps: u64| {
        let rates: Vec<f32> =
            steps.iter().map(|&step| config.learning_rate(step as u64, num_steps) as f32).collect();
        golden.check(file_name, &Tensor::from_slice(&rates));
    };
    for (name, schedule) in schedules() {
        let config = |num_warmup_steps| ScheduleConfig { schedule, num_warmup_steps, multiplier: 1. };
        check(&format!("raw.{name}.max100000"), &config(0), 100_000);
        check(&format!("trainer.{name}.max100000.warmup1000.mult1p0.base1p0"), &config(1000), 100_000);
    }
    let variants = [
        ("cosine.max500000.warmup1000.mult1p0.base1p0", 500_000, 1000, 1.),
        ("cosine.max125000.warmup1000.mult0p5.base1p0", 125_000, 1000, 0.5),
        ("cosine.max100000.warmup0.mult2p0.base1p0", 100_000, 0, 2.),
        ("linear.max250000.warmup1000.mult1p0.base1p0", 250_000, 1000, 1.),
        ("rsqrt.max250000.warmup100.mult1p0.base1p0", 250_000, 100, 1.),
        ("rsqrt_std.max100000.warmup100.mult1p0.base1p0", 100_000, 100, 1.),
        ("rsqrt_std.max100000.warmup0.mult1p0.base1p0", 100_000, 0, 1.),
        ("cosine.max100000.warmup1000.mult1p0.base0p05", 100_000, 1000, 0.05),
    ];
    for (name, num_steps, num_warmup_steps, multiplier) in variants {
        let (_, schedule) =
            schedules().into_iter().find(|(n, _)| name.starts_with(&format!("{n}."))).unwrap();
        let config = ScheduleConfig { schedule, num_warmup_steps, multiplier };
        check(&format!("trainer.{name}"), &config, num_steps);
    }
    golden.finish(&["raw.cosine_spike", "trainer.cosine_spike"]); // An option of later experiments.
}

fn schedules() -> Vec<(&'static str, Schedule)> {
    let schedule = |toml: &str| toml::from_str(toml).unwrap();
    vec![
        ("constant", schedule("kind = 'constant'\nlr = 0.01")),
        ("rsqrt_std_max0p02", schedule("kind = 'rsqrt'\nmax_lr = 0.02")),
        ("rsqrt_std", schedule("kind = 'rsqrt'")),
        ("rsqrt", schedule("kind = 'rsqrt_to_floor'\nmax_lr = 0.05\nmin_lr = 0.001")),
        ("exponential", schedule("kind = 'exponential'\nmax_lr = 0.01\nmin_lr = 0.001")),
        ("linear_noafter", schedule("kind = 'linear'\nmax_lr = 0.01\nmin_lr = 0.001\nafter = 'hold'")),
        ("linear", schedule("kind = 'linear'\nmax_lr = 0.01\nmin_lr = 0.001\nafter = 'decay'")),
        ("cosine_noafter", schedule("kind = 'cosine'\nmax_lr = 0.01\nmin_lr = 0.001\nafter = 'hold'")),
        ("cosine", schedule("kind = 'cosine'\nmax_lr = 0.01\nmin_lr = 0.001\nafter = 'decay'")),
    ]
}
