//! A folder of experiments, and xtask in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const TABLES: &str = r#"
title = "Tables of a test"
baseline = "slide"
budget = "3M"
vocab_size = 1024
headline = ["slide", "rec_a"]
headline_seeds = 2

[set]
"train.sinks" = "[]"

[[tables]]
name = "models"
title = "Models"
reference = "slide"
lines = ["slide", "rec_a", "xl"]
quantities = ["relative_step_time", "pg19_bytes", "arxiv_tokens"]
rows = [{ config = "xl", paper = "XL:2048" }, { config = "slide", paper = "Slide:13L" }, { config = "rec_a", paper = "Rec:fixed:skip" }]

[[tables]]
name = "more"
title = "More"
reference = "rec_a"
rows = [{ config = "rec_a" }, { config = "rec_other", label = "the other" }]

[[tables]]
name = "whole"
title = "Whole"
reference = "slide"
whole_split = true
rows = [{ config = "slide" }, { config = "rec_a" }]

[words]
model = "rec_a"
against = "slide"
documents = 2
per_document = 1

[[claims]]
text = "Recurrence is better"
measure = "loss"
of = ["rec_a"]
against = ["slide"]
below = 0.0
paper = "1.24 against 1.42"

[[claims]]
text = "Transformer-XL is better"
measure = "loss"
of = ["xl"]
against = ["slide"]
below = 0.0
paper = "never"

[[claims]]
text = "The other is better"
measure = "loss"
of = ["rec_other"]
against = ["rec_a"]
below = 0.0
paper = "who knows"

[[claims]]
text = "A step takes as long"
measure = "step_time"
of = ["rec_a"]
against = ["slide"]
above = 0.95
below = 1.05
paper = "0.99"

[[claims]]
text = "Names gain"
measure = "names"
above = 0.4
paper = "17 of 20"

[[claims]]
text = "Resetting costs"
measure = "reset"
of = ["rec_a"]
above = 0.0
"#;

/// A folder that xtask takes for the repository, with experiments in it.
pub(crate) struct Fixture {
    folder: TempDir,
}

impl Fixture {
    pub(crate) fn new(configs: &[(&str, &str)]) -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(fixture.path("benchmarks")).unwrap();
        fs::create_dir(fixture.path("configs")).unwrap();
        let numbers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benchmarks/paper-numbers.toml");
        fs::copy(numbers, fixture.path("benchmarks/paper-numbers.toml")).unwrap();
        fs::write(fixture.path("configs/tables.toml"), TABLES).unwrap();
        for (name, text) in configs {
            fs::write(fixture.path(&format!("configs/{name}.toml")), text).unwrap();
        }
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
        let mut command = Command::new(xtask);
        command.env("BRT_BIN", xtask.with_file_name("examples").join("fake_brt"));
        command.env("CARGO_MANIFEST_DIR", self.path("xtask"));
        command.args(["tables", "--configs"]).arg(self.path("configs"));
        command.arg("--out").arg(self.path("out")).args(more);
        command
    }

    pub(crate) fn tables(&self, more: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(more).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("out").join(name)).unwrap()
    }
}

/// Rows that train.
pub(crate) const ALL: &[(&str, &str)] = &[("xl", ""), ("slide", ""), ("rec_a", ""), ("rec_other", "")];

/// Returns the lines of a Markdown table that contain a text.
pub(crate) fn line<'a>(text: &'a str, part: &str) -> &'a str {
    text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with {part} in:\n{text}"))
}
