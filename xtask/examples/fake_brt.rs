//! Stands in for `brt` in xtask's own tests: answers the commands that it gives, at once, with made-up records.
//!
//! A configuration that says `fail` fails; one that says `slow` takes a minute unless its run was started before; steps of
//! one that says `untimed` cannot be timed, and the model of one that says `unscored` scores nothing.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a program for tests only")]

use std::{
    collections::HashMap,
    env,
    f64::consts::LN_2,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::exit,
    thread::sleep,
    time::Duration,
};

use brt_report::{
    BuildFacts, ContestantTiming, DocumentScore, Evaluation, MachineFacts, MetricsLine, ModelFacts,
    PositionBucket, RunResult, StateRule, TimingResult, TrainingFacts, write_json,
};

const TOKENS_PER_STEP: u64 = 4096;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args[0].as_str() {
        "data" if args[1] == "train-tokenizer" => {
            fs::write(flags(&args)["out"], flags(&args)["vocab-size"]).unwrap()
        }
        "data" => fs::create_dir_all(flags(&args)["out"]).unwrap(),
        "time" => time(&args),
        "train" => train(&args),
        "eval" => eval(&args),
        "score" => score(&args),
        other => panic!("unknown command {other}"),
    }
}

/// Returns the values of all `--name value` pairs.
fn flags(args: &[String]) -> HashMap<&str, &str> {
    let pairs = args.windows(2).filter_map(|pair| Some((pair[0].strip_prefix("--")?, pair[1].as_str())));
    pairs.collect()
}

fn stem(path: &str) -> String {
    Path::new(path).file_stem().unwrap().to_string_lossy().into_owned()
}

fn time(args: &[String]) {
    let flags = flags(args);
    let rounds: u64 = flags["rounds"].parse().unwrap();
    let parts: u64 = flags.get("parts").map_or(1, |parts| parts.parse().unwrap());
    let configs = args[1..].iter().take_while(|arg| !arg.starts_with("--"));
    if configs.clone().any(|path| fs::read_to_string(path).unwrap().contains("untimed")) {
        eprintln!("error: out of memory");
        exit(1);
    }
    let timed = |path: &String| {
        let name = stem(path);
        let secs = if name == "xl_long" { 1.9 } else { 0.5 + 0.01 * name.len() as f64 };
        let secs = secs / parts as f64;
        let noise_of = |round: u64| 0.02 * (round % 3) as f64 + 0.01 * noise(round, key(&name));
        let step_secs = (0..rounds).map(|round| secs * (1. + noise_of(round))).collect();
        ContestantTiming {
            name,
            tokens_per_step: TOKENS_PER_STEP / parts,
            num_steps: 600,
            num_tokens: 600 * TOKENS_PER_STEP,
            disk_bytes: 10 << 20,
            step_secs,
        }
    };
    let result = TimingResult {
        contestants: configs.map(timed).collect(),
        num_warmup_rounds: 2,
        load_average: 0.31,
        machine: machine(flags["threads"].parse().unwrap()),
    };
    write_json(Path::new(flags["out"]), &result).unwrap();
}

fn train(args: &[String]) {
    let flags = flags(args);
    let config = fs::read_to_string(&args[1]).unwrap();
    let out = PathBuf::from(flags["out"]);
    let seed: u64 = flags["seed"].parse().unwrap();
    let num_steps: u64 = flags.get("train.num_steps").map_or(600, |steps| steps.parse().unwrap());
    assert!(Path::new(flags["data"]).is_dir() && args.iter().any(|arg| arg == "--resume"));
    let name = stem(&args[1]);
    fs::write(out.join("arguments.txt"), args.join(" ")).unwrap();
    let mut metrics = File::create(out.join("metrics.jsonl")).unwrap();
    let curve: Vec<_> = (1..=num_steps).map(|step| line(&name, seed, step)).collect();
    for line in &curve {
        writeln!(metrics, "{}", serde_json::to_string(line).unwrap()).unwrap();
    }
    if config.contains("fail") {
        eprintln!("step 3\nerror: loss: expected a finite number, got NaN at step 3");
        exit(1);
    }
    let marker = out.join("checkpoint");
    if config.contains("slow") && !marker.exists() {
        fs::write(&marker, "").unwrap();
        sleep(Duration::from_secs(60));
    }
    let threads = flags["threads"].parse().unwrap();
    fs::create_dir_all(out.join("checkpoints")).unwrap();
    write_json(&out.join("result.json"), &result(&name, seed, threads, num_steps, config, curve)).unwrap();
}

fn refuse_unscored(run: &Path) {
    let result = fs::read_to_string(run.join("result.json")).unwrap();
    if result.contains("unscored") {
        exit(1);
    }
}

/// Scores whole documents with the model of a run.
fn eval(args: &[String]) {
    let flags = flags(args);
    let run = Path::new(&args[1]);
    refuse_unscored(run);
    assert!(run.join("checkpoints").is_dir() && flags["max-document-len"] == "0");
    let (name, seed) = run.file_name().unwrap().to_str().unwrap().rsplit_once("-seed").unwrap();
    let evaluation = evaluation(name, seed.parse().unwrap(), StateRule::Carried);
    write_json(Path::new(flags["json"]), &vec![evaluation]).unwrap();
}

/// Writes the nats of a text whose name `Ada` the recurrent model knows the second time, and one of whose words it knows
/// worse.
fn score(args: &[String]) {
    let run = Path::new(&args[1]);
    refuse_unscored(run);
    assert!(run.join("checkpoints").is_dir());
    let recurrent = run.file_name().unwrap().to_str().unwrap().starts_with("rec");
    let mut file = File::create(flags(args)["jsonl"]).unwrap();
    for document in 0..12 {
        for idx in 0..200 {
            let text = if idx % 100 == 50 { " Ada" } else { " and" };
            let nats = match idx {
                150 if recurrent => 1.,
                180 if recurrent => 5.,
                _ => 4.,
            };
            let (name, group) = (format!("d{document}"), format!("g{}", document / 2));
            let nats = (idx > 0).then_some(nats);
            let line =
                serde_json::json!({"file": name, "group": group, "idx": idx, "text": text, "nats": nats});
            writeln!(file, "{line}").unwrap();
        }
    }
}

/// How much better than the baseline a contestant is, in bits per token.
fn gain(name: &str) -> f64 {
    match name {
        "xl" => -0.12,
        name if name.starts_with("rec") => 0.06,
        _ => 0.,
    }
}

/// Returns a number that stands for a name.
fn key(name: &str) -> u64 {
    name.bytes().fold(0, |sum, byte| 31 * sum % 10_007 + u64::from(byte))
}

/// Returns a number between -1 and 1 that looks random.
fn noise(a: u64, b: u64) -> f64 {
    let mixed = (a * 2_654_435_761 + b * 40_503).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.
}

fn line(name: &str, seed: u64, step: u64) -> MetricsLine {
    let progress = step as f64 / 400.;
    let loss =
        4.6 + 4.2 * (-14. * progress).exp() + 3. * (-2.2 * progress).exp() - gain(name) * progress.min(1.);
    MetricsLine {
        step,
        num_tokens: step * TOKENS_PER_STEP,
        train_bits_per_token: loss + 0.2 * noise(step, seed),
        learning_rate: 2e-3,
        gradient_norm: 0.6,
        step_secs: 0.5,
        validation_bits_per_byte: step.is_multiple_of(50).then_some(loss / 3.02),
        ..MetricsLine::default()
    }
}

fn result(
    name: &str,
    seed: u64,
    num_threads: u64,
    num_steps: u64,
    config_toml: String,
    curve: Vec<MetricsLine>,
) -> RunResult {
    let recurrent = name.starts_with("rec");
    RunResult {
        name: name.into(),
        seed,
        config_toml,
        corpus_sha256: "5f2c1a9be04d7736c8e1f05aa2b94c3f6d8e7b10c5a4f39281706d5e4c3b2a19".into(),
        model: ModelFacts {
            description: if recurrent {
                "Rec:fixed:skip, 3 layers, W 64, S 64"
            } else {
                "Slide, 4 layers, W 64"
            }
            .into(),
            num_parameters: 1_512_000 + 8000 * name.len() as u64,
            num_parameters_without_embedding: 990_000,
            window_len: 64,
            segment_len: 512,
            training_flops_per_token: 6_100_000,
        },
        training: TrainingFacts {
            num_steps,
            num_tokens: num_steps * TOKENS_PER_STEP,
            batch: 8,
            world_size: 1,
            reduced_bytes: 0,
            reduce_secs: 0.,
            elapsed_secs: num_steps as f64 * 0.5,
            cpu_secs: num_steps as f64 * 0.49,
            median_step_secs: 0.5,
            peak_bytes: (310 + 9 * name.len() as u64) << 20,
            num_resumes: 0,
        },
        curve,
        test: evaluation(name, seed, StateRule::Carried),
        test_state_reset: recurrent.then(|| evaluation(name, seed, StateRule::Reset)),
        machine: machine(num_threads),
        build: BuildFacts {
            brt_version: "0.1.0".into(),
            commit: "0123abc".into(),
            libtorch_version: "2.11.0+cu130".into(),
            tch_version: "0.24.0".into(),
        },
    }
}

fn evaluation(name: &str, seed: u64, state_rule: StateRule) -> Evaluation {
    let lost = if state_rule == StateRule::Reset { 0.05 } else { 0. };
    let document = |i: u64| {
        let num_tokens = 2000 + 37 * (i * i % 91);
        let bits = 5.9 + 1.1 * noise(i, 1) - gain(name) + lost + 0.08 * noise(i, 7 + seed + key(name));
        let loss_nats = bits * num_tokens as f64 * LN_2;
        DocumentScore {
            name: format!("crate-{i}"),
            group: format!("family-{i}"),
            loss_nats,
            num_tokens,
            num_bytes: 3 * num_tokens,
            num_words: num_tokens / 2,
        }
    };
    let bucket = |i: u32| {
        let (start_token, end_token) = (if i == 0 { 0 } else { 32 << i }, 64 << i);
        let position = f64::from(i);
        let far = if name.starts_with("rec") { 0.018 * position - 0.03 } else { gain(name) };
        let bits = 5.3 + 2.4 * (-0.62 * position).exp() - far + 0.01 * noise(u64::from(i), 3 + key(name));
        PositionBucket { start_token, end_token, loss_nats: bits * 1e4 * LN_2, num_tokens: 10_000 }
    };
    Evaluation {
        split: "test".into(),
        state_rule,
        max_document_len: 0,
        num_batches: 0,
        documents: (0..64).map(document).collect(),
        by_position: (0..9).map(bucket).collect(),
    }
}

fn machine(num_threads: u64) -> MachineFacts {
    MachineFacts {
        cpu: "Some Processor 9000".into(),
        num_cpus: 2,
        cpu_capability: "AVX512".into(),
        product_library: "libtorch".into(),
        device: "cpu".into(),
        num_threads,
        memory_bytes: 24 << 30,
        os: "Linux 6.1".into(),
    }
}
