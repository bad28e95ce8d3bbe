//! Optimisers, schedules, and training over several steps.

use anyhow::{Context, Result, bail};
use brt_lm::LanguageModel;
use brt_trainer::{
    Adafactor, AdafactorConfig, AdamWConfig, After, Decay, Optimizer, OptimizerConfig, Schedule,
    ScheduleConfig, Spike,
};
use tch::{Kind, Tensor};

use crate::{
    config::config,
    golden::Golden,
    models::{Segment, check_state},
};

/// Several training steps: losses, learning rates, parameters and carried state.
pub(crate) fn check_trajectory(golden: &Golden) -> Result<()> {
    let model = LanguageModel::new(config(golden)?, 1, golden.device)?;
    golden.load_parameters("param0.", "", &model)?;
    let mut optimizer = Adafactor::new(AdafactorConfig::PAPER, model.params().named());
    let (schedule, num_steps) = trajectory_schedule(golden)?;
    let mut state = model.initial_state(golden.int("batch")?);
    for step in 0..golden.int("num_steps")? {
        let prefix = format!("step{step}.");
        let segment = Segment::read(golden, &prefix)?;
        let (logits, after) = segment.run(&model, &state);
        let loss = segment.loss(&logits);
        golden.check(&format!("{prefix}out.loss_sum"), &loss.view(1))?;
        brt_native::drop_gradients(model.params().named().iter().map(|(_, p)| p));
        loss.backward(); // Of the sum, as in the official code.
        let rate = schedule.learning_rate(step as u64, num_steps);
        golden.check(&format!("{prefix}out.learning_rate"), &Tensor::from_slice(&[rate as f32]))?;
        optimizer.step(rate);
        golden.check_parameters(&format!("{prefix}param."), "", &model, Tensor::shallow_clone)?;
        for (idx, layer) in after.layers.iter().enumerate() {
            let prefix = format!("{prefix}state.layer{idx}.");
            if golden.names(&prefix).next().is_some() {
                check_state(golden, &prefix, layer)?;
            }
        }
        state = after.detach();
    }
    Ok(())
}

/// Reads `cosine, max_lr 0.01, min_lr 0.001, max_steps 100, warmup 2, multiplier 1`.
fn trajectory_schedule(golden: &Golden) -> Result<(ScheduleConfig, u64)> {
    let text = golden.config["schedule"].as_str().context("config.schedule")?;
    let (kind, options) = text.split_once(", ").context("a kind of schedule")?;
    let number = |key: &str| {
        let value =
            options.split(", ").find_map(|option| option.strip_prefix(key)?.trim().parse::<f64>().ok());
        value.with_context(|| format!("config.schedule: expected {key} in {text}"))
    };
    if kind != "cosine" {
        bail!("config.schedule: expected cosine, got {kind}");
    }
    let schedule = Schedule::Cosine {
        max_lr: number("max_lr")?,
        min_lr: number("min_lr")?,
        after: After::Decay,
        spike: None,
    };
    let (num_warmup_steps, multiplier) = (number("warmup")? as u64, number("multiplier")?);
    Ok((
        ScheduleConfig { schedule, num_warmup_steps, multiplier, num_scheduled_steps: None },
        number("max_steps")? as u64,
    ))
}

/// An optimiser on given gradients: parameters after every step, moments after the last.
pub(crate) fn check_optimizer(golden: &Golden) -> Result<()> {
    let names: Vec<String> = golden.names("param0.").map(str::to_string).collect();
    let initial = |name: &String| {
        let value = golden.tensor(&format!("param0.{name}"))?;
        Ok((name.clone(), value.copy().set_requires_grad(true)))
    };
    let named: Vec<(String, Tensor)> = names.iter().map(initial).collect::<Result<_>>()?;
    let shared = named.iter().map(|(name, p)| (name.clone(), p.shallow_clone())).collect();
    let mut optimizer = Optimizer::new(optimizer_config(golden)?, shared);
    let rates: Vec<f64> = golden.tensor("in.learning_rate")?.to_kind(Kind::Double).try_into()?;
    for (step, rate) in rates.into_iter().enumerate() {
        for (name, parameter) in &named {
            brt_native::drop_gradients([parameter]);
            (parameter * golden.tensor(&format!("step{step}.grad.{name}"))?).sum(Kind::Float).backward();
        }
        optimizer.step(rate);
        for (name, parameter) in &named {
            golden.check(&format!("step{step}.param.{name}"), parameter)?;
        }
    }
    for (name, moment) in optimizer.named() {
        let (parameter, kind) = name.rsplit_once('.').context("a moment's name")?;
        let official = match (kind, &optimizer) {
            ("row", _) => "v_row",
            ("column", _) => "v_col",
            ("second_moment", Optimizer::Adafactor(_)) => "v",
            ("first_moment", _) => "mu",
            ("second_moment", Optimizer::AdamW(_)) => "nu",
            (kind, _) => kind,
        };
        let name = format!("state.{official}.{parameter}");
        if golden.has(&name) {
            golden.check(&name, &moment)?;
        }
    }
    Ok(())
}

fn optimizer_config(golden: &Golden) -> Result<OptimizerConfig> {
    let number = |key: &str| golden.config[key].as_f64();
    let required = |key: &str| number(key).with_context(|| format!("config.{key}: expected a number"));
    Ok(match golden.config["optimizer"].as_str() {
        Some("adafactor") => OptimizerConfig::Adafactor(AdafactorConfig {
            momentum: number("momentum"),
            decay_exponent: required("decay_rate")?,
            clip_threshold: required("clipping_threshold")?,
            weight_decay: number("weight_decay_rate").unwrap_or(0.),
            decay: Decay::All,
        }),
        Some("adamw") => OptimizerConfig::AdamW(AdamWConfig {
            beta1: required("beta1")?,
            beta2: required("beta2")?,
            epsilon: required("eps")?,
            weight_decay: required("weight_decay")?,
            decay: Decay::All,
        }),
        other => bail!("config.optimizer: expected adafactor or adamw, got {other:?}"),
    })
}

/// Schedules by their names: `raw.NAME.maxT` without, `trainer.NAME.maxT.warmupW.multM.baseB` with warm-up.
pub(crate) fn check_schedules(golden: &Golden) -> Result<()> {
    let steps: Vec<i64> = golden.tensor("in.step")?.try_into()?;
    for (family, name) in ["raw.", "trainer."]
        .into_iter()
        .flat_map(|family| golden.names(family).map(move |name| (family, name.to_string())))
        .collect::<Vec<_>>()
    {
        let mut parts = name.split('.');
        let schedule = schedule(parts.next().context("a name")?)?;
        let options: Vec<&str> = parts.collect();
        let option = |key: &str, usual: f64| match options.iter().find_map(|o| o.strip_prefix(key)) {
            Some(value) => value.replace('p', ".").parse().with_context(|| format!("{name}: {key}")),
            None => Ok(usual),
        };
        let config = ScheduleConfig {
            schedule,
            num_warmup_steps: option("warmup", 0.)? as u64,
            multiplier: option("mult", 1.)? * option("base", 1.)?,
            num_scheduled_steps: None,
        };
        let num_steps = option("max", 0.)? as u64;
        let rates: Vec<f32> =
            steps.iter().map(|&step| config.learning_rate(step as u64, num_steps) as f32).collect();
        golden.check(&format!("{family}{name}"), &Tensor::from_slice(&rates))?;
    }
    Ok(())
}

/// Returns a schedule of the official code with its usual constants.
fn schedule(name: &str) -> Result<Schedule> {
    let (max_lr, min_lr) = (0.01, 0.001);
    let after = if name.ends_with("_noafter") { After::Hold } else { After::Decay };
    let spike = name.ends_with("_spike").then_some(Spike { lr: 0.04, num_steps: 10_000 });
    Ok(match name.split('_').next() {
        Some("constant") => Schedule::Constant { lr: 0.01 },
        Some("rsqrt") if name.contains("_std") => {
            let max_lr = name.split_once("_max").map(|(_, max)| max.replace('p', ".").parse());
            Schedule::Rsqrt { max_lr: max_lr.transpose()? }
        }
        Some("rsqrt") => Schedule::RsqrtToFloor { max_lr: 0.05, min_lr },
        Some("exponential") => Schedule::Exponential { max_lr, min_lr },
        Some("linear") => Schedule::Linear { max_lr, min_lr, after },
        Some("cosine") => Schedule::Cosine { max_lr, min_lr, after, spike },
        _ => bail!("{name}: expected a schedule of the official code"),
    })
}
