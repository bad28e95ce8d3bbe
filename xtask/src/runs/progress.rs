//! What the user sees while runs run.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use brt_report::MetricsLine;

use crate::ui::{self, Redrawn};

/// Time between two redrawings on a terminal.
const REDRAW: Duration = Duration::from_secs(1);
/// Time between two lines where there is no terminal.
const REPORT: Duration = Duration::from_secs(30);
/// More than the longest line of `metrics.jsonl`, in bytes.
const TAIL_BYTES: u64 = 4096;

/// A run to be watched.
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) metrics: PathBuf,
    pub(super) num_steps: u64,
}

/// Shows how far the runs of one round are.
#[derive(Default)]
pub(super) struct Progress {
    shown: Option<Instant>,
    lines: Redrawn,
}

impl Progress {
    /// Prints a line that stays.
    pub(super) fn note(&mut self, text: &str) {
        ui::line(text);
        self.lines.keep();
    }

    /// Shows one line per run, where it is time to.
    pub(super) fn show(&mut self, runs: &[Watched]) {
        let period = if ui::is_terminal() { REDRAW } else { REPORT };
        if self.shown.get_or_insert_with(Instant::now).elapsed() < period || runs.is_empty() {
            return;
        }
        self.shown = Some(Instant::now());
        let lines: Vec<_> = runs.iter().map(|run| describe(run, last_line(&run.metrics).as_ref())).collect();
        if ui::is_terminal() {
            self.lines.draw(&lines);
        } else {
            lines.iter().for_each(|line| ui::line(line));
        }
    }
}

/// Returns a run's line, short enough for a narrow terminal.
fn describe(run: &Watched, line: Option<&MetricsLine>) -> String {
    let Some(line) = line else { return format!("{:22} starting", run.name) };
    let step = format!("step {}/{}", line.step, run.num_steps);
    let eta = match run.num_steps.saturating_sub(line.step) {
        0 => "evaluating".into(),
        left => format!("{} left", duration(left as f64 * line.step_secs)),
    };
    format!("{:22} {step:16} {:.3} bits/token  {eta}", run.name, line.train_bits_per_token)
}

/// Returns a duration as `1:02:03`, or `2:03` below one hour.
pub(crate) fn duration(secs: f64) -> String {
    let secs = secs.max(0.) as u64;
    match secs / 3600 {
        0 => format!("{}:{:02}", secs / 60, secs % 60),
        hours => format!("{hours}:{:02}:{:02}", secs / 60 % 60, secs % 60),
    }
}

/// Returns the last complete line of a `metrics.jsonl` that is being written.
fn last_line(path: &Path) -> Option<MetricsLine> {
    let mut file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES))).ok()?;
    let mut bytes = vec![];
    file.read_to_end(&mut bytes).ok()?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n')?;
    let start = bytes[..whole].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    serde_json::from_slice(&bytes[start..whole]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complete_line_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = folder.path().join("metrics.jsonl");
        let line = |step| {
            format!(
                r#"{{"step":{step},"num_tokens":1,"train_bits_per_token":2.5,"learning_rate":1,"gradient_norm":1,"step_secs":2.0}}"#
            )
        };
        let run = Watched { name: "slide-seed1".into(), metrics: metrics.clone(), num_steps: 100 };
        assert_eq!(describe(&run, last_line(&metrics).as_ref()), "slide-seed1            starting");
        std::fs::write(&metrics, format!("{}\n{}\n{{\"step\":3", line(10), line(40))).unwrap();
        assert_eq!(
            describe(&run, last_line(&metrics).as_ref()),
            "slide-seed1            step 40/100      2.500 bits/token  2:00 left"
        );
        assert_eq!(duration(3723.9), "1:02:03");
    }
}
