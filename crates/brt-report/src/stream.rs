//! What a token of a text costs, by how long the text is already.

use serde::{Deserialize, Serialize};

use crate::{
    BuildFacts, MachineFacts,
    plot::{self, Marks, Panel, Scale, Series},
};

/// A measurement on the way through a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamPoint {
    /// Tokens that have been read.
    pub num_tokens: u64,
    /// Wall time of a token in seconds, the mean of the last thousand.
    pub wall_secs_per_token: f64,
    /// Processor time of a token in seconds, likewise.
    pub cpu_secs_per_token: f64,
    /// Resident memory of the process, in bytes.
    pub resident_bytes: u64,
}

/// The output of `brt bench --stream`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamResult {
    /// Name of the configuration.
    pub name: String,
    /// Kind of the matrices: `f32` or `bf16`.
    pub kind: String,
    /// The measurements, from the beginning of the text on.
    pub points: Vec<StreamPoint>,
    /// Load average over the last minute when the measurement began.
    pub load_average: f64,
    /// The machine and the number of threads.
    pub machine: MachineFacts,
    /// What was measured.
    pub build: BuildFacts,
}

/// Returns a plot of several measurements, as SVG.
pub fn stream_svg(results: &[StreamResult]) -> String {
    let colour = |idx: usize| (idx + 1) % plot::NUM_COLOURS;
    let names: Vec<(String, usize)> = results
        .iter()
        .enumerate()
        .map(|(idx, result)| (format!("{}, {}", result.name, result.kind), colour(idx)))
        .collect();
    let panel = |title, value: &dyn Fn(&StreamPoint) -> f64| {
        let series = |(idx, result): (usize, &StreamResult)| Series {
            colour: colour(idx),
            marks: Marks::Dots,
            points: result.points.iter().map(|point| (point.num_tokens as f64, value(point))).collect(),
        };
        let series: Vec<Series> = results.iter().enumerate().map(series).collect();
        // A point that is not drawn: axes begin at zero, that flat means flat.
        let zero = Series { colour: 0, marks: Marks::None, points: vec![(1000., 0.)] };
        let series = series.into_iter().chain([zero]).collect();
        Panel {
            title,
            x_label: "tokens of the text",
            x_scale: Scale::Log2,
            y_max: None,
            height: 200.,
            series,
        }
    };
    let panels = [
        panel("milliseconds of one processor for a token", &|point| point.cpu_secs_per_token * 1e3),
        panel("resident memory, MB", &|point| point.resident_bytes as f64 / 1e6),
    ];
    let (content, height) = plot::stack(&names, &panels);
    plot::document("What a token costs", height, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_every_measurement() {
        let point = |num_tokens| StreamPoint {
            num_tokens,
            wall_secs_per_token: 1e-3,
            cpu_secs_per_token: 1e-3,
            resident_bytes: 1 << 28,
        };
        let result = StreamResult {
            name: "small".into(),
            kind: "f32".into(),
            points: vec![point(1000), point(10_000)],
            load_average: 0.,
            machine: MachineFacts::default(),
            build: BuildFacts::default(),
        };
        let svg = stream_svg(&[result]);
        assert!(svg.contains("small, f32") && svg.contains("tokens of the text"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 4, "{svg}");
    }
}
