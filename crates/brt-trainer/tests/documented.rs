//! Every key that a configuration may have is in the guide, and every key that the guide has is one.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use brt_trainer::{
    AdafactorConfig, AdamWConfig, DataConfig, EvaluationConfig, MuonConfig, OptimizerConfig, RunConfig,
    Schedule, ScheduleConfig, TrainConfig,
};

/// Every key that may be left out of a file.
const ABSENT: &str = r#"
[data]
max_document_len = 4096

[train]
max_gradient_norm = 1.0
accumulate = 1
checkpoint_every = 10
keep_every = 10

[evaluation]
max_document_len = 4096
num_batches = 1
sample = "moving"
"#;

const OPTIMIZERS: [&str; 3] = [
    "kind = 'adafactor'\nmomentum = 0.9\ndecay_exponent = 0.8\nclip_threshold = 1.0",
    "kind = 'adamw'\nbeta1 = 0.9\nbeta2 = 0.99\nepsilon = 1e-8",
    "kind = 'muon'\nmomentum = 0.9\nbeta1 = 0.9\nbeta2 = 0.99\nepsilon = 1e-8",
];

const SCHEDULES: [&str; 7] = [
    "kind = 'rsqrt'\nmax_lr = 0.01",
    "kind = 'rsqrt_to_floor'\nmax_lr = 0.01\nmin_lr = 0.001",
    "kind = 'cosine'\nmax_lr = 0.01\nmin_lr = 0.001\nafter = 'hold'\nspike = { lr = 0.1, num_steps = 10 }",
    "kind = 'linear'\nmax_lr = 0.01\nmin_lr = 0.001\nafter = 'decay'",
    "kind = 'exponential'\nmax_lr = 0.01\nmin_lr = 0.001",
    "kind = 'wsd'\nmax_lr = 0.01\nmin_lr = 0.001\ndecay_part = 0.2",
    "kind = 'constant'\nlr = 0.01",
];

/// Keys of all optimisers, and of all schedules.
const OF_OPTIMIZERS: [&str; 2] = ["weight_decay", "decay"];
const OF_SCHEDULES: [&str; 3] = ["num_warmup_steps", "multiplier", "num_scheduled_steps"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn load(optimizer: &str, schedule: &str) -> RunConfig {
    let base = repository().join("benchmarks/configs/compare/rec_fixed_skip.toml");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let text = format!(
        "extends = {base:?}\n{ABSENT}
         [optimizer]\n{optimizer}\nweight_decay = 0.1\ndecay = 'all'
         [schedule]\n{schedule}\nnum_warmup_steps = 1\nmultiplier = 1.0\nnum_scheduled_steps = 20\n"
    );
    fs::write(&path, text).unwrap();
    RunConfig::load(&path, &[]).unwrap()
}

/// Does not compile where a key or a kind is new: then it belongs into the constants above, and into the guide.
fn knows_all_keys(config: RunConfig) {
    let RunConfig { model: _, data, optimizer, schedule, train, evaluation } = config;
    let DataConfig { batch: _, segment_len: _, target_rule: _, pack: _, max_document_len: _ } = data;
    let TrainConfig {
        num_steps: _,
        precision: _,
        memory: _,
        non_finite: _,
        max_gradient_norm: _,
        accumulate: _,
        log_every: _,
        checkpoint_every: _,
        validate_every: _,
        statistics_every: _,
        sinks: _,
        keep_last: _,
        keep_every: _,
        keep_best: _,
    } = train;
    let EvaluationConfig { batch: _, max_document_len: _, num_batches: _, sample: _ } = evaluation;
    match optimizer {
        OptimizerConfig::Adafactor(options) => {
            let AdafactorConfig {
                momentum: _,
                decay_exponent: _,
                clip_threshold: _,
                weight_decay: _,
                decay: _,
            } = options;
        }
        OptimizerConfig::AdamW(options) => {
            let AdamWConfig { beta1: _, beta2: _, epsilon: _, weight_decay: _, decay: _ } = options;
        }
        OptimizerConfig::Muon(options) => {
            let MuonConfig { momentum: _, beta1: _, beta2: _, epsilon: _, weight_decay: _, decay: _ } =
                options;
        }
    }
    let ScheduleConfig { schedule, num_warmup_steps: _, multiplier: _, num_scheduled_steps: _ } = schedule;
    match schedule {
        Schedule::Rsqrt { max_lr: _ } => {}
        Schedule::Constant { lr: _ } => {}
        Schedule::RsqrtToFloor { max_lr: _, min_lr: _ } => {}
        Schedule::Exponential { max_lr: _, min_lr: _ } => {}
        Schedule::Cosine { max_lr: _, min_lr: _, after: _, spike: _ } => {}
        Schedule::Linear { max_lr: _, min_lr: _, after: _ } => {}
        Schedule::Wsd { max_lr: _, min_lr: _, decay_part: _ } => {}
    }
}

/// Returns the keys of a table of a configuration.
fn keys(config: &RunConfig, table: &str) -> BTreeSet<String> {
    let all = toml::Table::try_from(config).unwrap();
    all[table].as_table().unwrap().keys().cloned().collect()
}

struct Guide(String);

impl Guide {
    fn read() -> Self {
        Self(fs::read_to_string(repository().join("docs/training.md")).unwrap())
    }

    /// Returns the words in backticks in some cells of the rows of tables, row by row.
    fn rows<'a>(&'a self, cells: std::ops::Range<usize>) -> Vec<Vec<&'a str>> {
        let words = |cell: &'a str| cell.split('`').skip(1).step_by(2);
        let rows = self.0.lines().filter(|line| line.starts_with("| "));
        rows.map(|row| row.split('|').skip(1 + cells.start).take(cells.len()).flat_map(words).collect())
            .collect()
    }

    /// Returns the keys in the row of a kind; those of another kind where it is named.
    fn keys_of(&self, kind: &str) -> BTreeSet<String> {
        let rows = self.rows(0..2);
        let row = rows.iter().find(|row| row.first() == Some(&kind));
        let words = row.unwrap_or_else(|| panic!("docs/training.md has no row for {kind}"))[1..].iter();
        let is_kind = |word: &str| rows.iter().any(|row| row.first() == Some(&word));
        words
            .flat_map(|word| match *word {
                spike if spike.starts_with('{') => BTreeSet::new(),
                other if is_kind(other) => self.keys_of(other),
                key => [key.to_owned()].into(),
            })
            .collect()
    }
}

#[test]
fn tables_of_the_guide_have_the_keys_of_a_run() {
    let config = load(OPTIMIZERS[0], SCHEDULES[0]);
    let guide = Guide::read();
    for table in ["data", "train", "evaluation"] {
        let start = format!("{table}.");
        let documented: BTreeSet<String> = guide
            .rows(0..1)
            .concat()
            .iter()
            .filter_map(|word| Some(word.strip_prefix(&start)?.to_owned()))
            .collect();
        assert_eq!(documented, keys(&config, table), "docs/training.md, [{table}]");
    }
    knows_all_keys(config);
}

#[test]
fn kinds_of_the_guide_have_their_keys() {
    let guide = Guide::read();
    let check = |config: &RunConfig, table: &str, of_all: &[&str]| {
        let mut expected = keys(config, table);
        expected.remove("kind");
        let kind = toml::Table::try_from(config).unwrap()[table]["kind"].as_str().unwrap().to_owned();
        let mut documented = guide.keys_of(&kind);
        documented.extend(of_all.iter().map(|key| (*key).to_owned()));
        assert_eq!(documented, expected, "docs/training.md, {table} of kind {kind}");
        let rows = guide.rows(0..2);
        let is_there = |key: &&str| rows.iter().flatten().any(|word| word == key);
        assert!(of_all.iter().all(is_there), "docs/training.md, keys of every {table}");
    };
    for optimizer in OPTIMIZERS {
        check(&load(optimizer, SCHEDULES[0]), "optimizer", &OF_OPTIMIZERS);
    }
    for schedule in SCHEDULES {
        check(&load(OPTIMIZERS[0], schedule), "schedule", &OF_SCHEDULES);
    }
}
