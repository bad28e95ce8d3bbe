//! Records for tests.

use std::f64::consts::LN_2;

use brt_report::{
    BuildFacts, ContestantTiming, DocumentScore, Evaluation, MachineFacts, MetricsLine, ModelFacts,
    PositionBucket, RunResult, StateRule, TimingResult, TrainingFacts,
};

use crate::runs::Corpus;

use super::{
    plan::{Plan, PlannedRun},
    request::Request,
    run::RunOutcome,
};

/// Returns the request of a comparison.
pub(super) fn request(
    contestants: &[&str],
    seeds: u64,
    jobs: Option<usize>,
    minutes: Option<f64>,
) -> Request {
    Request {
        minutes,
        corpus: "code".into(),
        corpus_name: "code".into(),
        source: Corpus::Named("code".into()),
        seeds,
        contestants: contestants.iter().map(|name| (*name).to_owned()).collect(),
        configs: "configs".into(),
        jobs,
        config_texts: Default::default(),
    }
}

/// Returns steps of 0.5 s on two threads for all contestants.
pub(super) fn timing(contestants: &[&str]) -> TimingResult {
    let timed = |name: &&str| ContestantTiming {
        name: (*name).into(),
        tokens_per_step: 4096,
        num_steps: 3000,
        num_tokens: 3000 * 4096,
        disk_bytes: 1 << 20,
        step_secs: vec![0.5, 0.5, 0.5],
    };
    TimingResult {
        contestants: contestants.iter().map(timed).collect(),
        num_warmup_rounds: 2,
        load_average: 0.25,
        machine: machine(2),
    }
}

/// Returns a plan on two processors.
pub(super) fn plan(contestants: &[&str], seeds: u64) -> Plan {
    Plan::new(request(contestants, seeds, None, Some(5.)), 2, timing(contestants)).unwrap()
}

/// Returns a finished run with four documents of each of the given bits per byte.
pub(super) fn outcome(contestant: &str, seed: u64, bits_per_byte: &[f64]) -> RunOutcome {
    RunOutcome {
        run: run(contestant, seed),
        result: Some(result(contestant, seed, bits_per_byte)),
        failure: None,
    }
}

/// Returns a run that failed.
pub(super) fn failed(contestant: &str, seed: u64) -> RunOutcome {
    let failure = "exit status: 1, no result.json\nerror: out of <memory>".into();
    RunOutcome { run: run(contestant, seed), result: None, failure: Some(failure) }
}

fn run(contestant: &str, seed: u64) -> PlannedRun {
    PlannedRun { contestant: contestant.into(), seed, round: 0, num_threads: 1 }
}

fn machine(num_threads: u64) -> MachineFacts {
    MachineFacts {
        cpu: "Some Processor".into(),
        num_cpus: 2,
        cpu_capability: "AVX512".into(),
        product_library: "libtorch".into(),
        device: "cpu".into(),
        num_threads,
        memory_bytes: 16 << 30,
        os: "Linux 6".into(),
    }
}

fn result(name: &str, seed: u64, bits_per_byte: &[f64]) -> RunResult {
    let recurrent = name.starts_with("rec");
    RunResult {
        name: name.into(),
        seed,
        config_toml: format!("[model]\nname = \"{name}\"\n"),
        corpus_sha256: "0123456789abcdef0123456789abcdef".into(),
        model: ModelFacts {
            description: format!("{name}, 3 layers, W 64"),
            num_parameters: 1_234_567,
            num_parameters_without_embedding: 700_000,
            window_len: 64,
            segment_len: 512,
            training_flops_per_token: 6_000_000,
        },
        training: TrainingFacts {
            num_steps: 3000,
            num_tokens: 1_228_800,
            batch: 8,
            world_size: 1,
            reduced_bytes: 0,
            reduce_secs: 0.,
            elapsed_secs: 150.,
            cpu_secs: 149.,
            median_step_secs: 0.5,
            peak_bytes: 300 << 20,
            num_resumes: 0,
        },
        curve: (1..=30).map(|i| metrics(i, seed, recurrent)).collect(),
        test: evaluation(bits_per_byte, StateRule::Carried, recurrent),
        test_state_reset: recurrent.then(|| evaluation(bits_per_byte, StateRule::Reset, recurrent)),
        machine: machine(1),
        build: BuildFacts {
            brt_version: "0.1.0".into(),
            commit: "a".into(),
            libtorch_version: "2.11.0".into(),
            tch_version: "0.24.0".into(),
        },
    }
}

fn metrics(i: u64, seed: u64, recurrent: bool) -> MetricsLine {
    let progress = i as f64 / 30.;
    // A falling curve with some noise.
    let noise = ((i * 7919 + seed * 104_729) % 13) as f64 / 130.;
    let gain = if recurrent { 0.12 * progress } else { 0. };
    let loss = 5. + 6.5 * (-6. * progress).exp() + 1.2 * (-progress).exp() - gain;
    MetricsLine {
        step: i * 10,
        num_tokens: i * 40_960,
        train_bits_per_token: loss + noise,
        learning_rate: 2e-3,
        gradient_norm: 0.7,
        step_secs: 0.5,
        validation_bits_per_byte: i.is_multiple_of(6).then_some(loss / 2.9),
        ..MetricsLine::default()
    }
}

fn evaluation(bits_per_byte: &[f64], state_rule: StateRule, recurrent: bool) -> Evaluation {
    let reset = if state_rule == StateRule::Reset { 0.03 } else { 0. };
    let document = |(i, bits): (usize, &f64)| DocumentScore {
        name: format!("document-{i}"),
        group: format!("group-{i}"),
        loss_nats: (bits + reset) * 3000. * LN_2,
        num_tokens: 1000,
        num_bytes: 3000,
        num_words: 500,
    };
    let bucket = |i: u32| {
        let start_token = if i == 0 { 0 } else { 32 << i };
        let gain = if recurrent { 0.03 * f64::from(i) } else { 0. };
        let bits = 5.4 + 2.2 * (-0.55 * f64::from(i)).exp() - gain;
        PositionBucket { start_token, end_token: 64 << i, loss_nats: bits * 9000. * LN_2, num_tokens: 9000 }
    };
    Evaluation {
        split: "test".into(),
        state_rule,
        max_document_len: 0,
        num_batches: 0,
        documents: bits_per_byte.iter().flat_map(|bits| [bits; 4]).enumerate().map(document).collect(),
        by_position: (0..9).map(bucket).collect(),
    }
}
