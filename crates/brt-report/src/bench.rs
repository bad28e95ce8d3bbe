//! What a machine can do, and how much of it models reach.

use serde::{Deserialize, Serialize};

use crate::{BuildFacts, MachineFacts, median};

/// What a measured thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchGroup {
    /// What the machine can do.
    Ceiling,
    /// Part of a training step.
    Part,
    /// Whole training step.
    Step,
    /// Reading a prompt, or a token of one or several texts.
    Decode,
}

/// One thing that was measured, once in every round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchEntry {
    /// What it is.
    pub group: BenchGroup,
    /// Its name.
    pub name: String,
    /// Kind of its matrix products: `f32` or `bf16`.
    pub kind: String,
    /// Multiplications and additions of its matrix products; 0 where it has none.
    pub flops: f64,
    /// Bytes that it has to read and write; 0 where they are not what limits it.
    pub bytes: f64,
    /// Wall time in seconds; entry `i` of everything was taken in round `i`.
    pub wall_secs: Vec<f64>,
    /// Processor time of all threads in seconds, likewise.
    pub cpu_secs: Vec<f64>,
}

impl BenchEntry {
    /// Returns the median wall time in seconds.
    pub fn median_wall_secs(&self) -> f64 {
        median(self.wall_secs.clone())
    }

    /// Returns the median processor time in seconds.
    pub fn median_cpu_secs(&self) -> f64 {
        median(self.cpu_secs.clone())
    }

    /// Returns floating-point operations in a second of wall time.
    pub fn flops_per_sec(&self) -> f64 {
        self.flops / self.median_wall_secs()
    }

    /// Returns bytes in a second of wall time.
    pub fn bytes_per_sec(&self) -> f64 {
        self.bytes / self.median_wall_secs()
    }
}

/// The output of `brt bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchResult {
    /// Everything that was measured.
    pub entries: Vec<BenchEntry>,
    /// Load average over the last minute when the measurement began.
    pub load_average: f64,
    /// Largest resident memory of the process, in bytes.
    pub peak_resident_bytes: u64,
    /// Most memory of the device that tensors took, in bytes; `None` on the CPU.
    pub peak_device_bytes: Option<u64>,
    /// The machine and the number of threads.
    pub machine: MachineFacts,
    /// What was measured.
    pub build: BuildFacts,
}

impl BenchResult {
    /// Returns the largest rate of the ceilings that are of this kind.
    fn ceiling(&self, kind: &str, rate: impl Fn(&BenchEntry) -> f64) -> f64 {
        let ceilings = self.entries.iter().filter(|entry| entry.group == BenchGroup::Ceiling);
        ceilings.filter(|entry| entry.kind == kind).map(rate).fold(0., f64::max)
    }

    /// Returns the share of the matrix rate of its kind that an entry reaches; `None` where it has no products.
    pub fn flops_share(&self, entry: &BenchEntry) -> Option<f64> {
        let ceiling = self.ceiling(&entry.kind, BenchEntry::flops_per_sec);
        (entry.flops > 0. && ceiling > 0.).then(|| entry.flops_per_sec() / ceiling)
    }

    /// Returns the share of the rate of copies that an entry reaches; `None` where memory is not what limits it.
    pub fn bytes_share(&self, entry: &BenchEntry) -> Option<f64> {
        let ceiling = self.ceiling("f32", BenchEntry::bytes_per_sec);
        (entry.bytes > 0. && ceiling > 0.).then(|| entry.bytes_per_sec() / ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(group: BenchGroup, kind: &str, flops: f64, bytes: f64, secs: f64) -> BenchEntry {
        let name = "x".into();
        BenchEntry {
            group,
            name,
            kind: kind.into(),
            flops,
            bytes,
            wall_secs: vec![secs],
            cpu_secs: vec![secs],
        }
    }

    #[test]
    fn shares_are_of_the_best_ceiling_of_the_kind() {
        let entries = vec![
            entry(BenchGroup::Ceiling, "f32", 10., 0., 1.),
            entry(BenchGroup::Ceiling, "f32", 20., 0., 1.),
            entry(BenchGroup::Ceiling, "bf16", 80., 0., 1.),
            entry(BenchGroup::Ceiling, "f32", 0., 4., 1.),
            entry(BenchGroup::Part, "f32", 10., 1., 1.),
        ];
        let result = BenchResult {
            load_average: 0.,
            peak_resident_bytes: 0,
            peak_device_bytes: None,
            machine: MachineFacts::default(),
            build: BuildFacts::default(),
            entries,
        };
        let part = &result.entries[4];
        assert_eq!((result.flops_share(part), result.bytes_share(part)), (Some(0.5), Some(0.25)));
        assert_eq!(result.flops_share(&result.entries[3]), None);
    }
}
