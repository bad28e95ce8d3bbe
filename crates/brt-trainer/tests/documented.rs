//! Every key that a configuration may have is in the documentation.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;

use brt_trainer::RunConfig;

/// All keys of all kinds of optimisers and schedules, on top of a complete file.
const ALL: &str = r#"
[data]
max_document_len = 4096

[train]
max_gradient_norm = 1.0
accumulate = 1
checkpoint_every = 10
validate_every = 10
keep_every = 10
sinks = ["csv", "tensorboard"]

[evaluation]
max_document_len = 4096
num_batches = 1
sample = "moving"

[optimizer]
"#;

const OPTIMIZERS: [&str; 3] = [
    r#"kind = "adafactor"
       momentum = 0.9
       decay_exponent = 0.8
       clip_threshold = 1.0"#,
    r#"kind = "adamw"
       beta1 = 0.9
       beta2 = 0.99
       epsilon = 1e-8"#,
    r#"kind = "muon"
       momentum = 0.9
       beta1 = 0.9
       beta2 = 0.99
       epsilon = 1e-8"#,
];

const SCHEDULES: [&str; 7] = [
    r#"kind = "rsqrt"
       max_lr = 0.01"#,
    r#"kind = "rsqrt_to_floor"
       max_lr = 0.01
       min_lr = 0.001"#,
    r#"kind = "cosine"
       max_lr = 0.01
       min_lr = 0.001
       after = "hold"
       spike = { lr = 0.1, num_steps = 10 }"#,
    r#"kind = "linear"
       max_lr = 0.01
       min_lr = 0.001
       after = "decay""#,
    r#"kind = "exponential"
       max_lr = 0.01
       min_lr = 0.001"#,
    r#"kind = "wsd"
       max_lr = 0.01
       min_lr = 0.001
       decay_part = 0.2"#,
    r#"kind = "constant"
       lr = 0.01"#,
];

fn repository() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn load(optimizer: &str, schedule: &str) -> toml::Table {
    let base = repository().join("benchmarks/configs/compare/rec_fixed_skip.toml");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let decay = "weight_decay = 0.1\ndecay = \"all\"";
    let rest = "num_warmup_steps = 1\nmultiplier = 1.0\nnum_scheduled_steps = 20";
    let text = format!("extends = {base:?}\n{ALL}{optimizer}\n{decay}\n[schedule]\n{schedule}\n{rest}\n");
    std::fs::write(&path, text).unwrap();
    let config = RunConfig::load(&path, &[]).unwrap();
    toml::Table::try_from(config).unwrap()
}

/// The words in backticks of the tables of a document: `a.b` stands for b in the table a.
fn documented(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_key_of_a_run_is_in_the_guide() {
    let text = std::fs::read_to_string(repository().join("docs/training.md")).unwrap();
    let documented = documented(&text);
    let mut keys = std::collections::BTreeSet::new();
    for optimizer in OPTIMIZERS {
        for schedule in SCHEDULES {
            for (section, values) in load(optimizer, schedule) {
                for (key, value) in values.as_table().unwrap() {
                    let by_kind = matches!(section.as_str(), "optimizer" | "schedule") && key != "kind";
                    keys.insert(if by_kind { key.clone() } else { format!("{section}.{key}") });
                    keys.extend((key == "kind").then(|| value.as_str().unwrap().to_owned()));
                }
            }
        }
    }
    keys.retain(|key| !key.starts_with("model."));
    assert!(keys.len() > 45, "{keys:?}");
    let missing: Vec<_> = keys.iter().filter(|key| !documented.contains(&key.as_str())).collect();
    assert!(missing.is_empty(), "docs/training.md does not say what these are: {missing:?}");
}

/// The other way round: what the guide names as a key of a section is one.
#[test]
fn the_guide_names_no_key_that_is_none() {
    let text = std::fs::read_to_string(repository().join("docs/training.md")).unwrap();
    let config = load(OPTIMIZERS[0], SCHEDULES[0]);
    for word in documented(&text) {
        let Some((section, key)) = word.split_once('.') else { continue };
        if let Some(values) = config.get(section) {
            assert!(values.get(key).is_some(), "docs/training.md: no such key: {word}");
        }
    }
}
