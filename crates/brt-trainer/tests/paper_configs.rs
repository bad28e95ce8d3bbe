//! The configurations of the paper: every file loads, alone or laid over a row, and has the size that the paper gives.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use brt_lm::{Carry, ModelConfig};
use brt_trainer::{ConfigFileError, RunConfig};

fn paper() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benchmarks/configs/paper").canonicalize().unwrap()
}

fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // What `cargo xtask tables` makes of them is no configuration.
    let is_config = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == "toml")
            && path.file_name().is_some_and(|name| name != "tables.toml")
    };
    let mut files: Vec<_> = files.filter(is_config).collect();
    files.sort();
    files
}

fn row(name: &str) -> RunConfig {
    RunConfig::load(&paper().join(name).with_extension("toml"), &[]).unwrap()
}

/// Loads a row with options laid over it, as a user's own file would.
fn composed(files: &[PathBuf]) -> Result<RunConfig, ConfigFileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    fs::write(&path, format!("extends = {files:?}\n")).unwrap();
    RunConfig::load(&path, &[])
}

/// Returns the number of parameters as the paper counts them, in millions.
fn millions(config: &RunConfig) -> f64 {
    config.model.num_layer_parameters().unwrap() as f64 / 1e6
}

#[test]
fn every_row_loads() {
    let rows = toml_files(&paper());
    assert!(rows.len() >= 20, "{rows:?}");
    for path in rows {
        let config = RunConfig::load(&path, &[]).unwrap();
        // 2^17 tokens per step.
        assert_eq!(config.data.tokens_per_step(), 131_072, "{}", path.display());
    }
}

#[test]
fn every_option_can_be_laid_over_a_row() {
    for folder in
        fs::read_dir(paper()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        for option in toml_files(&folder) {
            let is_about_memory = option.file_stem().unwrap() == "2025_memory";
            let base = if is_about_memory { "memorizing_64k.toml" } else { "rec_fixed_skip.toml" };
            let row = RunConfig::load(&paper().join(base), &[]).unwrap();
            match composed(&[paper().join(base), option.clone()]) {
                // Says what the row has already.
                Ok(config)
                    if ["150m", "2022", "recurrent"]
                        .contains(&option.file_stem().unwrap().to_str().unwrap()) =>
                {
                    assert_eq!(config, row, "{}", option.display());
                }
                Ok(config) => assert_ne!(config, row, "{} changes nothing", option.display()),
                Err(error) => panic!("{}: {error}", option.display()),
            }
        }
    }
}

/// Adam's base rate is a multiplier of the schedule that lies below it.
#[test]
fn adam_goes_over_a_schedule() {
    let files =
        ["rec_fixed_skip.toml", "options/cosine.toml", "options/adam.toml"].map(|name| paper().join(name));
    assert_eq!(composed(&files).unwrap().schedule.multiplier, 0.05);
}

#[test]
fn the_base_is_the_models_default() {
    assert_eq!(row("base").model, ModelConfig::paper());
    assert_eq!(row("slide12"), row("base"));
}

/// Sizes of the paper's size files, without embeddings.
#[test]
fn sizes() {
    let table =
        [("37m", 37.7), ("75m", 75.5), ("150m", 151.0), ("300m", 302.0), ("600m", 604.0), ("1200m", 1208.0)];
    for (name, expected) in table {
        let size = paper().join("sizes").join(name).with_extension("toml");
        let got = millions(&composed(&[paper().join("base.toml"), size]).unwrap());
        assert!((got - expected).abs() <= 0.05, "{name}: {got} M, expected {expected} M");
    }
    let table = [("slide13", 163.58), ("rec_fixed_skip", 160.43), ("rec_lstm_dual", 181.40)];
    for (name, expected) in table {
        let got = millions(&row(name));
        assert!((got - expected).abs() <= 0.005, "{name}: {got} M, expected {expected} M");
    }
}

#[test]
fn rows_are_the_papers() {
    let description = |name: &str| row(name).model.description();
    assert_eq!(description("xl2048"), "XL:2048, 12 layers");
    assert_eq!(description("slide13"), "Slide:13L, W 512");
    assert_eq!(description("rec_lstm_single"), "Rec:lstm:single, 12 layers, W 512, S 512");
    assert_eq!(description("feedback_fixed_skip"), "Feedback:fixed:skip, 12 layers, W 512, S 512");
    assert_eq!(description("memorizing_64k"), "Memorizing:65536, 12 layers, W 512");
    assert_eq!(row("rec_fixed_skip").model.recurrent_layers(), [9]);
    assert_eq!(row("rec_fixed_skip_24layers").model.recurrent_layers(), [9, 19]);
    assert_eq!(row("memorizing_64k").model.memory_layer(), Some(8));
    for (name, window_len) in [("xl512", 512), ("xl1024", 1024), ("xl2048", 2048)] {
        let config = row(name);
        assert_eq!((config.model.window_len, config.data.segment_len), (window_len, window_len as usize));
        assert_eq!(config.model.carry, Carry::Detached);
    }
}

/// FLOPs of the forward pass: twice the parameters that a token meets, and the attention to its window.
#[test]
fn flops() {
    let forward = |name: &str| row(name).model.forward_flops_per_token();
    let attention = 12 * 2 * 512 * 1024;
    assert_eq!(forward("base"), 2 * (12 * (4 * 1024 * 1024 + 2 * 1024 * 4096) + attention + 32_128 * 1024));
    // Rec:fixed:skip costs about what a thirteenth layer costs.
    let (rec, slide) = (forward("rec_fixed_skip") as f64, forward("slide13") as f64);
    assert!((rec / slide - 1.).abs() < 0.02, "{}", rec / slide);
}
