//! The plots of a report: learning curves, loss by position, differences with their intervals.

use std::collections::BTreeMap;

use brt_report::{
    MetricsLine,
    plot::{self, Marks, NUM_COLOURS, Panel, Range, Scale, Series, WIDTH, smoothed, without_the_start},
};

use super::{
    report::Report,
    statistics::{ContestantStatistics, PositionMean},
    tables,
};
use crate::report::mean;

/// Returns the plots that the records allow, with their file names.
pub(super) fn all(report: &Report) -> Vec<(&'static str, String)> {
    let plots = [
        ("differences.svg", differences(report)),
        ("curves.svg", curves(report)),
        ("position.svg", position(report)),
    ];
    plots.into_iter().filter_map(|(name, plot)| Some((name, plot?))).collect()
}

/// Returns a contestant's colour: grey for the baseline, the first accent for the challenger, then by order.
fn colour(report: &Report, name: &str) -> usize {
    if name == report.plan.baseline {
        return 0;
    }
    let others = report.plan.request.contestants.iter().filter(|other| **other != report.plan.baseline);
    let challenger = report.plan.challenger.iter();
    let rest = others.filter(|other| Some(*other) != report.plan.challenger.as_ref());
    let place = challenger.chain(rest).position(|other| other == name).unwrap_or(0);
    1 + place % (NUM_COLOURS - 1)
}

/// Draws a legend and panels one below the other.
fn stack(report: &Report, label: &str, panels: Vec<Panel<'_>>) -> Option<String> {
    let entries = &report.statistics.contestants;
    let names: Vec<_> =
        entries.iter().map(|entry| (entry.name.clone(), colour(report, &entry.name))).collect();
    let (content, height) = plot::stack(&names, &panels);
    panels.iter().any(Panel::has_points).then(|| plot::document(label, height, &content))
}

/// Draws training and validation loss over trained tokens.
fn curves(report: &Report) -> Option<String> {
    let names = || report.statistics.contestants.iter().map(|entry| entry.name.as_str());
    let series = |points: &dyn Fn(&str) -> Vec<(f64, f64)>| -> Vec<Series> {
        let one = |name| {
            let points = points(name);
            // A single point has no line.
            let marks = if points.len() < 2 { Marks::Dots } else { Marks::None };
            Series { colour: colour(report, name), marks, points }
        };
        names().map(one).collect()
    };
    let training =
        series(&|name| smoothed(&mean_curve(report, name, |line| Some(line.train_bits_per_token))));
    let mut validation = series(&|name| mean_curve(report, name, |line| line.validation_bits_per_byte));
    // A single point is no curve.
    validation.retain(|series| series.points.len() > 1);
    validation.iter_mut().for_each(|series| series.marks = Marks::Dots);
    let panel = |title, height, series: Vec<Series>| Panel {
        title,
        x_label: "tokens trained",
        x_scale: Scale::Linear,
        y_max: without_the_start(&series),
        height,
        series,
    };
    let panels = vec![
        panel("Training loss, bits/token (smoothed)", 250., training),
        panel("Validation, bits/byte", 190., validation),
    ];
    stack(report, "Learning curves", panels)
}

/// Returns the mean over seeds of a quantity, at the steps that all seeds have.
fn mean_curve(report: &Report, name: &str, value: impl Fn(&MetricsLine) -> Option<f64>) -> Vec<(f64, f64)> {
    let mut by_tokens: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let mut num_seeds = 0;
    for result in report.results_of(name) {
        num_seeds += 1;
        for line in &result.curve {
            by_tokens.entry(line.num_tokens).or_default().extend(value(line));
        }
    }
    let whole = by_tokens.into_iter().filter(|(_, values)| num_seeds > 0 && values.len() == num_seeds);
    whole.map(|(tokens, values)| (tokens as f64, mean(values))).collect()
}

/// Draws the loss by position in the document, and below it the difference of challenger and baseline.
fn position(report: &Report) -> Option<String> {
    let point = |bucket: &PositionMean| {
        // The middle of a bucket on a logarithmic axis; the first is placed as if it doubled too.
        let start = bucket.start_token.max(bucket.end_token / 2).max(1);
        let x = (start as f64 * bucket.end_token as f64).sqrt();
        (x, bucket.bits_per_token)
    };
    let series = |entry: &ContestantStatistics| Series {
        colour: colour(report, &entry.name),
        marks: Marks::Dots,
        points: entry.by_position.iter().map(point).collect(),
    };
    let panel = |title, height, series| Panel {
        title,
        x_label: "position in the document (tokens)",
        x_scale: Scale::Log2,
        y_max: None,
        height,
        series,
    };
    let losses = report.statistics.contestants.iter().map(series).collect();
    let mut panels = vec![panel("Loss by position, bits/token", 250., losses)];
    let title;
    if let Some((challenger, baseline)) = report.pair() {
        title = format!("{} − {}, bits/token (below 0: better)", challenger.name, baseline.name);
        let mut difference = series(challenger);
        let zero = series(baseline).points;
        difference.points.retain_mut(|(x, y)| {
            let other = zero.iter().find(|(other, _)| other == x);
            *y -= other.map_or(0., |(_, bits)| *bits);
            other.is_some()
        });
        let zero = Series {
            colour: 0,
            marks: Marks::None,
            points: difference.points.iter().map(|p| (p.0, 0.)).collect(),
        };
        panels.push(panel(&title, 190., vec![zero, difference]));
    }
    stack(report, "Loss by position in the document", panels)
}

/// Draws each contestant's difference to the baseline with its interval.
fn differences(report: &Report) -> Option<String> {
    let entries = report.statistics.contestants.iter();
    let rows: Vec<_> = entries.filter_map(|entry| Some((entry, entry.difference.as_ref()?))).collect();
    let mut range = Range::EMPTY;
    range.include(0.);
    for (_, difference) in &rows {
        [difference.mean].iter().chain(difference.interval.iter().flatten()).for_each(|v| range.include(*v));
    }
    range.widen();
    let (left, bottom) = (14., 30. + 46. * rows.len() as f64);
    let to_x = |value: f64| left + range.share(value) * (WIDTH - 2. * left);
    let title = format!("Difference to {}, bits/byte (left of 0: better)", report.plan.baseline);
    let mut text = format!("<text class=\"t\" x=\"4\" y=\"14\">{}</text>", plot::escape(&title));
    for tick in range.ticks(5) {
        let label = range.label(tick);
        let (x, y) = (to_x(tick), bottom + 16.);
        text += &format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>");
        // Only beside the intervals: the labels between them stay clear of lines.
        let class = if tick == 0. { "z" } else { "g" };
        let segments: String =
            (0..rows.len()).map(|row| format!("M{x:.1} {}v22", 53. + 46. * row as f64)).collect();
        text += &format!("<path class=\"{class}\" d=\"{segments}\"/>");
    }
    for (row, (entry, difference)) in rows.iter().enumerate() {
        let (y, colour) = (64. + 46. * row as f64, colour(report, &entry.name));
        let label = format!("{}  {}", entry.name, tables::difference(difference));
        text += &format!("<text class=\"l\" x=\"{left}\" y=\"{}\">{}</text>", y - 14., plot::escape(&label));
        if let Some([low, high]) = difference.interval.map(|ends| ends.map(to_x)) {
            text += &format!(
                "<path class=\"s c{colour}\" d=\"M{low:.1} {y}H{high:.1}M{low:.1} {}v8M{high:.1} {}v8\"/>",
                y - 4.,
                y - 4.
            );
        }
        text += &format!(
            "<circle class=\"m c{colour}\" cx=\"{:.1}\" cy=\"{y}\" r=\"4.5\"/>",
            to_x(difference.mean)
        );
    }
    (!rows.is_empty()).then(|| plot::document(&title, bottom + 24., &text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::fixture;

    #[test]
    fn plots_hold_a_line_per_contestant_and_only_numbers() {
        let names = ["xl", "slide", "rec"];
        let outcomes = names.iter().map(|name| fixture::outcome(name, 1, &[2., 2.5, 2.2])).collect();
        let report = Report::new(fixture::plan(&names, 1), outcomes);
        let plots = all(&report);
        assert_eq!(
            plots.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["differences.svg", "curves.svg", "position.svg"]
        );
        for (name, svg) in plots {
            assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n"), "{name}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
            assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
        }
        assert_eq!(["slide", "rec", "xl"].map(|name| colour(&report, name)), [0, 1, 2]);
    }

    #[test]
    fn a_comparison_without_results_has_no_plots() {
        let report = Report::new(fixture::plan(&["slide", "rec"], 1), vec![fixture::failed("slide", 1)]);
        assert!(all(&report).is_empty());
    }

    #[test]
    fn smoothing_averages_neighbours() {
        let points: Vec<_> = (0..80).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let smooth = smoothed(&points);
        assert_eq!(smooth.len(), 80);
        assert!((smooth[40].1 - 0.4).abs() < 1e-9);
    }
}
