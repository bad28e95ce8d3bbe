//! Where the lines of a learning curve go: `metrics.jsonl` always, `metrics.csv` and TensorBoard's event files where they
//! are asked for.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use brt_report::{MetricsLine, write_atomic};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{TrainError, folder};

/// A file of metrics beside `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    /// `metrics.csv`: a column for each number.
    Csv,
    /// `events.out.tfevents.0.brt`, which TensorBoard reads.
    #[serde(rename = "tensorboard")]
    TensorBoard,
}

/// The files of metrics of a run.
#[derive(Debug)]
pub(crate) struct Sinks {
    out: PathBuf,
    kinds: Vec<Sink>,
    /// Whether a line could not be written: then all are written again with the next one.
    is_behind: bool,
}

impl Sinks {
    /// Writes the lines of a run that begins or goes on.
    pub(crate) fn begin(out: &Path, kinds: &[Sink], curve: &[MetricsLine]) -> Result<Self, TrainError> {
        let sinks = Self { out: out.into(), kinds: kinds.to_vec(), is_behind: false };
        sinks.rewrite(curve)?;
        Ok(sinks)
    }

    /// Puts all lines of the curve on the disk: before a checkpoint that stands on them.
    pub(crate) fn sync(&mut self, curve: &[MetricsLine]) -> Result<(), TrainError> {
        if self.is_behind {
            self.rewrite(curve)?;
            self.is_behind = false;
        }
        let path = folder::metrics(&self.out);
        fs::File::open(&path).and_then(|file| file.sync_all()).map_err(TrainError::io(&path, "sync"))
    }

    /// Writes the last line of the curve. A disk that is full now loses nothing: the lines are written when it is not.
    pub(crate) fn append(&mut self, curve: &[MetricsLine]) {
        let Some(line) = curve.last() else { return };
        let written = if self.is_behind { self.rewrite(curve) } else { self.try_append(line) };
        if let Err(error) = &written {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            tracing::warn!("{error}{cause}; training goes on, the lines will be written later");
        }
        self.is_behind = written.is_err();
    }

    fn rewrite(&self, curve: &[MetricsLine]) -> Result<(), TrainError> {
        write_atomic(&folder::metrics(&self.out), curve.iter().map(json).collect::<String>().as_bytes())?;
        for kind in &self.kinds {
            let text = match kind {
                Sink::Csv => [csv_head()].into_iter().chain(curve.iter().map(csv)).collect::<String>().into(),
                Sink::TensorBoard => {
                    [head_event()].into_iter().chain(curve.iter().map(event)).flatten().collect()
                }
            };
            write_atomic(&self.path(*kind), &text as &Vec<u8>)?;
        }
        Ok(())
    }

    fn try_append(&self, line: &MetricsLine) -> Result<(), TrainError> {
        append(&folder::metrics(&self.out), json(line).as_bytes())?;
        for kind in &self.kinds {
            let text = match kind {
                Sink::Csv => csv(line).into_bytes(),
                Sink::TensorBoard => event(line),
            };
            append(&self.path(*kind), &text)?;
        }
        Ok(())
    }

    fn path(&self, kind: Sink) -> PathBuf {
        self.out.join(match kind {
            Sink::Csv => "metrics.csv",
            Sink::TensorBoard => "events.out.tfevents.0.brt",
        })
    }
}

fn append(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let before = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.map_err(TrainError::io(path, "write"))?;
    file.write_all(bytes).map_err(|error| {
        let _ = file.set_len(before); // Half a line is none.
        TrainError::io(path, "write")(error)
    })
}

fn json(line: &MetricsLine) -> String {
    serde_json::to_string(line).expect("a line of metrics is JSON") + "\n"
}

/// Returns the numbers of a line by name, those that every line has first.
fn numbers(line: &MetricsLine) -> Vec<(&'static str, Option<f64>)> {
    let MetricsLine {
        num_tokens,
        train_bits_per_token,
        train_bits_per_byte,
        learning_rate,
        gradient_norm,
        step_secs,
        tokens_per_sec,
        num_skipped,
        validation_bits_per_byte,
        ..
    } = line;
    vec![
        ("num_tokens", Some(*num_tokens as f64)),
        ("train_bits_per_token", Some(*train_bits_per_token)),
        ("train_bits_per_byte", Some(*train_bits_per_byte)),
        ("learning_rate", Some(*learning_rate)),
        ("gradient_norm", Some(*gradient_norm)),
        ("step_secs", Some(*step_secs)),
        ("tokens_per_sec", Some(*tokens_per_sec)),
        ("num_skipped", Some(*num_skipped as f64)),
        ("validation_bits_per_byte", *validation_bits_per_byte),
    ]
}

fn csv_head() -> String {
    let names: Vec<&str> = numbers(&MetricsLine::default()).into_iter().map(|(name, _)| name).collect();
    format!("step,unix_secs,{},statistics\n", names.join(","))
}

/// The statistics, whose number depends on the model, share one column: `layers.1.gate.mean=0.9 …`.
fn csv(line: &MetricsLine) -> String {
    let number = |(_, number): (&str, Option<f64>)| number.map(|n| n.to_string()).unwrap_or_default();
    let numbers: Vec<String> = numbers(line).into_iter().map(number).collect();
    let statistics: Vec<String> = line.statistics.iter().map(|(name, n)| format!("{name}={n}")).collect();
    format!("{},{},{},{}\n", line.step, line.unix_secs, numbers.join(","), statistics.join(" "))
}

/// `Event` of TensorBoard's `event.proto`, as far as it is needed.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

fn head_event() -> Vec<u8> {
    let file_version = Some("brain.Event:2".to_owned());
    record(&Event { wall_time: 0., step: 0, file_version, summary: None })
}

fn event(line: &MetricsLine) -> Vec<u8> {
    let numbers =
        numbers(line).into_iter().filter_map(|(name, number)| Some((format!("curve/{name}"), number?)));
    let statistics = line.statistics.iter().map(|(name, number)| (format!("statistics/{name}"), *number));
    let value = |(tag, number): (String, f64)| SummaryValue { tag, simple_value: Some(number as f32) };
    let summary = Some(Summary { value: numbers.chain(statistics).map(value).collect() });
    record(&Event { wall_time: line.unix_secs, step: line.step as i64, file_version: None, summary })
}

/// Returns an event as a record: its length, the length's checksum, the event, its checksum.
fn record(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let len = (data.len() as u64).to_le_bytes();
    [&len[..], &masked_crc(&len), &data, &masked_crc(&data)].concat()
}

/// Returns the checksum as records hold it: rotated and added to, since checksums of checksums are weak.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Byte for byte what TensorBoard's own writer makes of the same events.
    #[test]
    fn records_are_those_of_tensorboard() {
        let head = "0f000000000000006d532b091a0d627261696e2e4576656e743a32fc985129";
        assert_eq!(hex(&head_event()), head);
        let value = SummaryValue { tag: "a/b".into(), simple_value: Some(1.5) };
        let summary = Some(Summary { value: vec![value] });
        let event = Event { wall_time: 2.5, step: 7, file_version: None, summary };
        let expected = "19000000000000008bf1082809000000000000044010072a0c0a0a0a03612f62150000c03fb8e48c6b";
        assert_eq!(hex(&record(&event)), expected);
    }

    /// Lines that could not be written are written with the next one, each once.
    #[test]
    fn a_line_that_was_not_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        fs::create_dir(&out).unwrap();
        let line = |step| MetricsLine { step, ..MetricsLine::default() };
        let mut curve = vec![line(1)];
        let mut sinks = Sinks::begin(&out, &[Sink::Csv], &curve).unwrap();
        fs::rename(&out, folder.path().join("aside")).unwrap(); // As a disk that has gone.
        for step in 2..4 {
            curve.push(line(step));
            sinks.append(&curve);
        }
        assert!(sinks.sync(&curve).is_err());
        fs::rename(folder.path().join("aside"), &out).unwrap();
        curve.push(line(4));
        sinks.append(&curve);
        sinks.sync(&curve).unwrap();
        assert_eq!(folder::read_metrics(&out, 9).unwrap(), curve);
        assert_eq!(fs::read_to_string(out.join("metrics.csv")).unwrap().lines().count(), 5);
    }
}
