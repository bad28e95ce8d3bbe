//! The plots: learning curves over tokens and seconds, loss by position, speed against quality, sizes, gates and
//! states, words.

use std::collections::{BTreeMap, BTreeSet};

use brt_report::{
    MetricsLine, RunResult,
    plot::{self, Marks, NUM_COLOURS, Panel, Scale, Series},
};

use super::{
    distances::DistanceGain,
    experiments::{Experiment, Row},
    layout,
    records::Records,
    scatter,
};
use crate::report::mean;

/// Rows that a plot of lines can tell apart.
const MAX_LINES: usize = NUM_COLOURS;

/// Returns the plots of a table that its records allow, with their file names.
pub(super) fn of_table(records: &Records, table: &Experiment) -> Vec<(String, String)> {
    let mut plots = vec![];
    let mut add = |name: &str, plot: Option<String>| {
        plots.extend(plot.map(|plot| (format!("{}-{name}.svg", table.name), plot)));
    };
    if !table.series.is_empty() {
        add("sizes", sizes(records, table));
        return plots;
    }
    let lines = lines(records, table);
    if !lines.is_empty() {
        add("speed", scatter::speed(records, table));
        add("curves", curves(records, &lines));
        add("position", position(records, &lines, &table.reference));
        add("states", states(records, &lines));
    }
    plots
}

/// Returns the rows that are drawn as lines and have results.
fn lines<'a>(records: &Records, table: &'a Experiment) -> Vec<&'a Row> {
    let rows = table.lines.iter().filter_map(|name| table.rows.iter().find(|row| row.config == *name));
    rows.filter(|row| records.first(&row.config).is_some()).take(MAX_LINES).collect()
}

/// Returns a row's colour among those of a plot: grey for the baseline, the first accent for a recurrent model.
fn colours(records: &Records, rows: &[&Row]) -> Vec<usize> {
    let mut next = 1;
    let is_baseline = |row: &&Row| row.config == records.file.baseline;
    let mut by_row = vec![0; rows.len()];
    let mut order: Vec<usize> = (0..rows.len()).filter(|i| !is_baseline(&rows[*i])).collect();
    order.sort_by_key(|i| !is_recurrent(records, rows[*i]));
    for i in order {
        by_row[i] = next;
        next = next % (NUM_COLOURS - 1) + 1;
    }
    by_row
}

pub(super) fn is_recurrent(records: &Records, row: &Row) -> bool {
    records.first(&row.config).is_some_and(|result| result.test_state_reset.is_some())
}

fn draw(label: &str, names: &[(String, usize)], panels: &[Panel<'_>]) -> Option<String> {
    let (content, height) = plot::stack(names, panels);
    panels.iter().any(Panel::has_points).then(|| plot::document(label, height, &content))
}

fn names(rows: &[&Row], colours: &[usize]) -> Vec<(String, usize)> {
    rows.iter().zip(colours).map(|(row, colour)| (row.label().to_owned(), *colour)).collect()
}

/// Draws validation loss over tokens and over seconds of training.
fn curves(records: &Records, rows: &[&Row]) -> Option<String> {
    let colours = colours(records, rows);
    let seeds = common_seeds(records, rows);
    let series = |x_of: &dyn Fn(&Row, &MetricsLine) -> Option<f64>| -> Vec<Series> {
        let one = |(row, colour): (&&Row, &usize)| {
            let mut sums: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
            let of_seeds = records.of(&row.config).filter(|(seed, _)| seeds.contains(seed));
            let results: Vec<&RunResult> = of_seeds.map(|(_, result)| result).collect();
            for line in results.iter().flat_map(|result| &result.curve) {
                let point = x_of(row, line).zip(line.validation_bits_per_byte);
                sums.entry(line.num_tokens).or_default().extend(point);
            }
            // The steps that all seeds have, without the steep start.
            let whole = sums.into_values().filter(|points| points.len() == results.len());
            let points: Vec<_> =
                whole.map(|points| (points[0].0, mean(points.iter().map(|(_, y)| *y)))).collect();
            let start = points.len() / 5;
            Series { colour: *colour, marks: Marks::Dots, points: points[start..].to_vec() }
        };
        rows.iter().zip(&colours).map(one).collect()
    };
    let panel = |title, x_label, series| Panel {
        title,
        x_label,
        x_scale: Scale::Linear,
        y_max: None,
        height: 230.,
        series,
    };
    let by_tokens = series(&|_, line| Some(line.num_tokens as f64));
    let by_secs =
        series(&|row, line| Some(line.num_tokens as f64 * records.timings.secs_per_token(&row.config)?));
    let panels = [
        panel("Validation, bits/byte: equal tokens", "tokens trained", by_tokens),
        panel("Validation, bits/byte: equal time", "seconds of training, by the measured step", by_secs),
    ];
    draw("Learning curves", &names(rows, &colours), &panels)
}

/// Returns the seeds that all of the rows have.
fn common_seeds(records: &Records, rows: &[&Row]) -> BTreeSet<u64> {
    records.common_seeds(rows.iter().map(|row| row.config.as_str()))
}

/// Draws the loss by position in the document, and the differences to the reference.
fn position(records: &Records, rows: &[&Row], reference: &str) -> Option<String> {
    let colours = colours(records, rows);
    let seeds = records.common_seeds(rows.iter().map(|row| row.config.as_str()).chain([reference]));
    let losses = |config: &str| -> Vec<(f64, f64)> {
        let mut buckets: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
        let results = records.of(config).filter(|(seed, _)| seeds.contains(seed));
        for bucket in results.flat_map(|(_, result)| &result.test.by_position) {
            if bucket.num_tokens > 0 {
                buckets
                    .entry((bucket.start_token, bucket.end_token))
                    .or_default()
                    .push(bucket.bits_per_token());
            }
        }
        let point = |((start, end), bits): ((u64, u64), Vec<f64>)| {
            // The middle of a bucket on a logarithmic axis; the first is placed as if it doubled too.
            ((start.max(end / 2).max(1) as f64 * end as f64).sqrt(), mean(bits))
        };
        buckets.into_iter().map(point).collect()
    };
    let zero: BTreeMap<u64, f64> = losses(reference).into_iter().map(|(x, y)| (x.to_bits(), y)).collect();
    let series = |minus: bool| -> Vec<Series> {
        let one = |(row, colour): (&&Row, &usize)| {
            let mut points = losses(&row.config);
            if minus {
                points.retain_mut(|(x, y)| zero.get(&x.to_bits()).map(|zero| *y -= zero).is_some());
            }
            Series { colour: *colour, marks: Marks::Dots, points }
        };
        rows.iter().zip(&colours).map(one).collect()
    };
    let panel = |title, series| {
        let x_label = "position in the document (tokens)";
        Panel { title, x_label, x_scale: Scale::Log2, y_max: None, height: 220., series }
    };
    let title = format!("Difference to {}, bits/token (below 0: better)", records.label(reference));
    let panels = [panel("Loss by position, bits/token", series(false)), panel(&title, series(true))];
    draw("Loss by position in the document", &names(rows, &colours), &panels)
}

/// Draws bits/byte over the number of parameters without embeddings, a line for each series.
fn sizes(records: &Records, table: &Experiment) -> Option<String> {
    let seeds = records.common_seeds(table.rows.iter().map(|row| row.config.as_str()));
    let series = |(i, series): (usize, &super::experiments::RowSeries)| {
        let point = |row: &String| {
            let num = records.first(row)?.model.num_parameters_without_embedding;
            Some((num as f64, layout::mean_bits(records, row, &seeds)?))
        };
        let points = series.rows.iter().filter_map(point).collect();
        Series { colour: (i + 1) % NUM_COLOURS, marks: Marks::Dots, points }
    };
    let lines: Vec<Series> = table.series.iter().enumerate().map(series).collect();
    let names: Vec<_> =
        table.series.iter().zip(&lines).map(|(series, line)| (series.name.clone(), line.colour)).collect();
    let panel = Panel {
        title: "Bits/byte by parameters",
        x_label: "parameters without embeddings",
        x_scale: Scale::Log2,
        y_max: None,
        height: 270.,
        series: lines,
    };
    draw("Scaling", &names, &[panel])
}

/// Draws what gates and states of the recurrent rows do while they train, in the colours that they have among `rows`.
fn states(records: &Records, rows: &[&Row]) -> Option<String> {
    let colours = colours(records, rows);
    let recurrent = || rows.iter().zip(&colours).filter(|(row, _)| is_recurrent(records, row));
    let series = |wanted: &dyn Fn(&str) -> bool| -> Vec<Series> {
        let one = |(row, colour): (&&Row, &usize)| {
            let curve = records.first(&row.config).into_iter().flat_map(|result| &result.curve);
            let point = |line: &MetricsLine| {
                let values = line.statistics.iter().filter(|(name, _)| wanted(name)).map(|(_, value)| *value);
                let value = mean(values);
                value.is_finite().then_some((line.num_tokens as f64, value))
            };
            Series { colour: *colour, marks: Marks::None, points: curve.filter_map(point).collect() }
        };
        recurrent().map(one).collect()
    };
    let panel = |title, series| Panel {
        title,
        x_label: "tokens trained",
        x_scale: Scale::Linear,
        y_max: None,
        height: 190.,
        series,
    };
    let panels = [
        panel("Openness of the gates to the update (mean)", series(&|name| name.ends_with("openness.mean"))),
        panel("Share of the states in what tokens read", series(&|name| name.ends_with("state_share"))),
        panel("Length of a state vector (mean over blocks)", series(&|name| name.ends_with("state_norm"))),
    ];
    let names: Vec<_> = recurrent().map(|(row, colour)| (row.label().to_owned(), *colour)).collect();
    draw("Gates and states", &names, &panels)
}

/// Draws the mean gain of a word by the distance to its last occurrence.
pub(super) fn words(records: &Records) -> Option<String> {
    let words = records.words.as_ref()?;
    let known = || words.by_distance.iter().filter(|gain| gain.end.is_some());
    let at = |gain: &DistanceGain| (gain.start.max(1) as f64 * gain.end.unwrap_or(1) as f64).sqrt();
    let line = |colour, marks, value: &dyn Fn(&DistanceGain) -> Option<f64>| Series {
        colour,
        marks,
        points: known().filter_map(|gain| Some((at(gain), value(gain)?))).collect(),
    };
    let series = vec![
        line(0, Marks::None, &|_| Some(0.)),
        line(1, Marks::Dots, &|gain| Some(gain.bits)),
        line(3, Marks::None, &|gain| gain.interval.map(|ends| ends[0])),
        line(3, Marks::None, &|gain| gain.interval.map(|ends| ends[1])),
    ];
    let panel = Panel {
        title: "Gain of a word by how far back it last occurred",
        x_label: "tokens since its last occurrence",
        x_scale: Scale::Log2,
        y_max: None,
        height: 250.,
        series,
    };
    let names = [("gain, bits/word".to_owned(), 1), ("95 % interval".to_owned(), 3)];
    draw("Gain of words by distance", &names, &[panel])
}
