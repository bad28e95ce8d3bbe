//! One contestant: a process that answers each line with a line of JSON.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use brt_report::MachineFacts;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Measured;
use crate::failure::{Context, Result, fail};

/// What a contestant says when it is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) num_parameters: u64,
    pub(super) version: String,
    /// What it runs on; brt alone says so.
    pub(super) machine: Option<MachineFacts>,
}

/// One training step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Stepped {
    pub(super) wall_secs: f64,
    pub(super) cpu_secs: f64,
    /// Nats per token.
    pub(super) loss: f64,
}

/// One text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Generation {
    pub(super) wall_secs: f64,
    pub(super) cpu_secs: f64,
    pub(super) num_tokens: u64,
    pub(super) way: String,
}

/// What a contestant says in the end.
#[derive(Debug, Deserialize)]
struct Peaks {
    peak_device_bytes: Option<u64>,
}

pub(super) struct Contestant {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    measured: Measured,
}

impl Contestant {
    /// Starts a process and waits until it is ready.
    pub(super) fn start(kind: &str, precision: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context(|| format!("starting {kind} ({})", command.get_program().display()))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return fail(format!("{kind}: expected a process with pipes"));
        };
        let ready = Ready { name: kind.into(), num_parameters: 0, version: String::new(), machine: None };
        let measured = Measured {
            kind: kind.into(),
            precision: precision.into(),
            ready,
            steps: vec![],
            generations: vec![],
            documented: None,
            training_peak_bytes: 0,
            peak_device_bytes: None,
        };
        let mut started = Self { child, to, from: BufReader::new(from), measured };
        started.measured.ready = started.answer("its start")?;
        Ok(started)
    }

    pub(super) fn kind(&self) -> &str {
        &self.measured.kind
    }

    /// One training step, which counts or only warms up.
    pub(super) fn step(&mut self, counts: bool) -> Result {
        let stepped: Stepped = self.ask("step")?;
        if !stepped.loss.is_finite() {
            return fail(format!("{}: expected a finite loss, got {}", self.name(), stepped.loss));
        }
        if counts {
            self.measured.steps.push(stepped);
        }
        Ok(())
    }

    /// Notes how much memory the process has taken so far.
    pub(super) fn note_training_peak(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
        self.measured.training_peak_bytes = kib.unwrap_or(0) * 1024;
    }

    pub(super) fn generate(&mut self) -> Result {
        let generation = self.ask("generate")?;
        self.measured.generations.push(generation);
        Ok(())
    }

    pub(super) fn generate_documented(&mut self) -> Result {
        self.measured.documented = Some(self.ask("generate_documented")?);
        Ok(())
    }

    /// Ends the process and returns what was measured.
    pub(super) fn quit(mut self) -> Result<Measured> {
        let peaks: Peaks = self.ask("quit")?;
        self.measured.peak_device_bytes = peaks.peak_device_bytes;
        let status = self.child.wait().context(|| format!("waiting for {}", self.name()))?;
        if !status.success() {
            return fail(format!("{}: expected an end without error, got {status}", self.name()));
        }
        Ok(self.measured.clone())
    }

    fn name(&self) -> String {
        format!("{} {}", self.measured.kind, self.measured.precision)
    }

    fn ask<T: DeserializeOwned>(&mut self, command: &str) -> Result<T> {
        writeln!(self.to, "{command}").context(|| format!("{}: asking for {command}", self.name()))?;
        self.answer(command)
    }

    fn answer<T: DeserializeOwned>(&mut self, to: &str) -> Result<T> {
        let mut line = String::new();
        self.from.read_line(&mut line).context(|| format!("{}: reading", self.name()))?;
        match serde_json::from_str(&line) {
            Ok(answer) => Ok(answer),
            Err(_) if line.is_empty() => fail(format!(
                "{}: expected an answer to {to}, got its end; its message is above",
                self.name()
            )),
            Err(_) => fail(format!("{}: expected an answer to {to}, got {}", self.name(), line.trim())),
        }
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // After an error elsewhere nobody waits for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
