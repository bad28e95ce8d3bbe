//! Speed against quality: a spot for every row, with its label beside it.

use brt_report::plot::{self, Range, WIDTH};

use super::{
    charts::is_recurrent,
    experiments::{Experiment, Row},
    layout,
    records::Records,
};

const LEFT: f64 = 52.;
const RIGHT: f64 = WIDTH - 12.;
const TOP: f64 = 26.;
const BOTTOM: f64 = 330.;

/// The axes of a plot of spots.
struct Axes {
    xs: Range,
    ys: Range,
}

impl Axes {
    fn around(points: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut axes = Self { xs: Range::EMPTY, ys: Range::EMPTY };
        for (x, y) in points {
            axes.xs.include(x);
            axes.ys.include(y);
        }
        axes.xs.widen();
        axes.ys.widen();
        axes
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        (LEFT + self.xs.share(x) * (RIGHT - LEFT), BOTTOM - self.ys.share(y) * (BOTTOM - TOP))
    }

    fn draw(&self, title: &str) -> String {
        let mut text = format!("<text class=\"t\" x=\"4\" y=\"14\">{}</text>", plot::escape(title));
        for tick in self.ys.ticks(5) {
            let ((_, y), label) = (self.place(0., tick), self.ys.label(tick));
            text += &format!("<path class=\"g\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
            text +=
                &format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 6., y + 4.);
        }
        for tick in self.xs.ticks(6) {
            let ((x, _), y, label) = (self.place(tick, 0.), BOTTOM + 16., self.xs.label(tick));
            text += &format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>");
        }
        let (x, y) = (f64::midpoint(LEFT, RIGHT), BOTTOM + 32.);
        let label = "time of a training step, relative to the baseline";
        text + &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>")
    }
}

/// Draws every row of a table: relative time of a step against bits/byte. The best are at the lower left.
pub(super) fn speed(records: &Records, table: &Experiment) -> Option<String> {
    let seeds = records.common_seeds(table.rows.iter().map(|row| row.config.as_str()));
    let point = |row: &Row| {
        let bits = layout::mean_bits(records, &row.config, &seeds)?;
        let time = records.timings.relative(&row.config)?.value;
        Some((row.label().to_owned(), time, bits, usize::from(is_recurrent(records, row))))
    };
    let points: Vec<_> = table.rows.iter().filter_map(point).collect();
    let axes = Axes::around(points.iter().map(|(_, x, y, _)| (*x, *y)));
    let mut text = axes.draw("Speed against quality: bits/byte by relative step time");
    let spots: Vec<_> = points.iter().map(|(_, x, y, _)| axes.place(*x, *y)).collect();
    let labels = place_labels(&spots, &points.iter().map(|(label, ..)| label.as_str()).collect::<Vec<_>>());
    for (((label, _, _, colour), (x, y)), (label_x, label_y, anchor)) in points.iter().zip(&spots).zip(labels)
    {
        text += &format!("<circle class=\"m c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>");
        text += &format!(
            "<text class=\"l\" font-size=\"10\" x=\"{label_x:.1}\" y=\"{label_y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            plot::escape(label)
        );
    }
    (points.len() > 1).then(|| plot::document("Speed against quality", BOTTOM + 42., &text))
}

/// Returns where the label of each spot stands, so that few of them overlap: right, left, above or below it.
fn place_labels(spots: &[(f64, f64)], labels: &[&str]) -> Vec<(f64, f64, &'static str)> {
    type Place = (f64, f64, f64, f64);
    let mut taken: Vec<Place> = spots.iter().map(|(x, y)| (x - 5., y - 5., x + 5., y + 5.)).collect();
    let mut placed = vec![];
    for ((x, y), label) in spots.iter().zip(labels) {
        let width = 5.6 * label.chars().count() as f64;
        let box_of = |label_x: f64, label_y: f64, anchor: &str| -> Place {
            let left = match anchor {
                "start" => label_x,
                "end" => label_x - width,
                _ => label_x - width / 2.,
            };
            (left, label_y - 9., left + width, label_y + 2.)
        };
        let candidates = [0., 12., -12., 24., -24., 36., -36.].into_iter().flat_map(|shift| {
            [
                (x + 8., y + 4. + shift, "start"),
                (x - 8., y + 4. + shift, "end"),
                (*x, y - 9. - shift.abs(), "middle"),
            ]
        });
        let overlap = |place: &Place| -> f64 {
            let outside = (-place.0).max(0.) + (place.2 - WIDTH).max(0.);
            let common = |other: &Place| {
                let width = (place.2.min(other.2) - place.0.max(other.0)).max(0.);
                width * (place.3.min(other.3) - place.1.max(other.1)).max(0.)
            };
            100. * outside + taken.iter().map(common).sum::<f64>()
        };
        let best = candidates
            .min_by(|a, b| overlap(&box_of(a.0, a.1, a.2)).total_cmp(&overlap(&box_of(b.0, b.1, b.2))));
        let best = best.unwrap_or((*x, *y, "start"));
        taken.push(box_of(best.0, best.1, best.2));
        placed.push(best);
    }
    placed
}
