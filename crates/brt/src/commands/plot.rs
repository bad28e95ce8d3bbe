//! `brt plot`: the learning curves of one or several runs.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use brt_report::{
    MetricsLine,
    plot::{self, Marks, NUM_COLOURS, Panel, Scale, Series, smoothed, without_the_start},
    write_atomic,
};

use crate::{arguments::PlotArguments, output::line};

/// Width of a picture in pixels, for one of the plot's own units.
const PIXELS: f32 = 2.5;

/// A run and its curve.
struct Curve {
    name: String,
    lines: Vec<MetricsLine>,
}

/// What is drawn: title, whether it is smoothed, and the number of a line.
type Quantity = (&'static str, Smoothing, fn(&MetricsLine) -> Option<f64>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Smoothing {
    Smoothed,
    AsItIs,
}

const QUANTITIES: [Quantity; 11] = [
    ("Training loss, bits/byte (smoothed)", Smoothing::Smoothed, |line| Some(line.train_bits_per_byte)),
    ("Validation, bits/byte", Smoothing::AsItIs, |line| line.validation_bits_per_byte),
    ("Learning rate", Smoothing::AsItIs, |line| Some(line.learning_rate)),
    ("Gradient norm (smoothed)", Smoothing::Smoothed, |line| Some(line.gradient_norm)),
    ("Tokens per second (smoothed)", Smoothing::Smoothed, |line| Some(line.tokens_per_sec)),
    ("Gate openness, mean", Smoothing::AsItIs, |line| statistic(line, "openness.mean")),
    ("Length of a state vector", Smoothing::AsItIs, |line| statistic(line, "state_norm")),
    ("Length of a state's update in a block", Smoothing::AsItIs, |line| statistic(line, "update_norm")),
    ("Share of the states in what tokens read", Smoothing::AsItIs, |line| statistic(line, "state_share")),
    ("Entropy of attention to states, nats", Smoothing::AsItIs, |line| {
        statistic(line, "tokens_to_states.entropy")
    }),
    ("Entropy of attention to tokens, nats", Smoothing::AsItIs, |line| {
        statistic(line, "tokens_to_tokens.entropy")
    }),
];

/// Returns the mean over layers of a statistic.
fn statistic(line: &MetricsLine, end: &str) -> Option<f64> {
    let found = line.statistics.iter().filter(|(name, _)| name.ends_with(end));
    let values: Vec<f64> = found.map(|(_, value)| *value).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

pub(super) fn run(arguments: &PlotArguments) -> Result<()> {
    let mut curves = arguments.runs.iter().map(|run| curve(run)).collect::<Result<Vec<_>>>()?;
    let names: BTreeSet<&String> = curves.iter().map(|curve| &curve.name).collect();
    if names.len() < curves.len() {
        curves
            .iter_mut()
            .zip(&arguments.runs)
            .for_each(|(curve, run)| curve.name = run.display().to_string());
    }
    let names: Vec<_> =
        curves.iter().enumerate().map(|(idx, curve)| (curve.name.clone(), colour(idx))).collect();
    let panels: Vec<Panel<'_>> = QUANTITIES.iter().map(|quantity| panel(quantity, &curves)).collect();
    let (content, height) = plot::stack(&names, &panels);
    match arguments.out.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => {
            let svg = plot::document("Learning curves", height, &content);
            write_atomic(&arguments.out, svg.as_bytes())?;
        }
        Some("png") => {
            let svg = plot::plain_document("Learning curves", height, &content);
            write_atomic(&arguments.out, &picture(&svg)?)?;
        }
        other => bail!("--out {}: expected .svg or .png, got {other:?}", arguments.out.display()),
    }
    line(format!("{} written", arguments.out.display()));
    Ok(())
}

/// Grey is the first; beyond the last colour they begin anew.
fn colour(idx: usize) -> usize {
    (idx + 1) % NUM_COLOURS
}

fn curve(run: &Path) -> Result<Curve> {
    let path = run.join("metrics.jsonl");
    let text =
        fs::read_to_string(&path).with_context(|| format!("{}: cannot read the metrics", path.display()))?;
    // The last line may be on its way.
    let lines: Vec<MetricsLine> = text.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
    ensure!(!lines.is_empty(), "{}: expected at least one line of metrics, got none", path.display());
    let name = run.file_name().unwrap_or(run.as_os_str()).to_string_lossy().into_owned();
    Ok(Curve { name, lines })
}

fn panel<'a>((title, smoothing, value): &Quantity, curves: &[Curve]) -> Panel<'a>
where
    'static: 'a,
{
    let series = |(idx, curve): (usize, &Curve)| {
        let point = |line: &MetricsLine| Some((line.num_tokens as f64, value(line)?));
        let points: Vec<_> = curve.lines.iter().filter_map(point).collect();
        let marks = if points.len() < 2 { Marks::Dots } else { Marks::None };
        let points = if *smoothing == Smoothing::Smoothed { smoothed(&points) } else { points };
        Series { colour: colour(idx), marks, points }
    };
    let series: Vec<Series> = curves.iter().enumerate().map(series).collect();
    // What falls steeply at the start would flatten all that follows.
    let y_max = without_the_start(&series).filter(|_| *smoothing == Smoothing::Smoothed);
    Panel { title, x_label: "tokens trained", x_scale: Scale::Linear, y_max, height: 190., series }
}

/// Returns a plot as PNG.
fn picture(svg: &str) -> Result<Vec<u8>> {
    let mut options = resvg::usvg::Options::default();
    options.fontdb_mut().load_system_fonts();
    ensure!(
        !options.fontdb.is_empty(),
        "--out: expected a font on this system to write a PNG with, got none; install one, or write an .svg"
    );
    let families = options.fontdb.faces().filter_map(|face| Some(face.families.first()?.0.clone()));
    let families: Vec<String> = families.collect();
    let is_plain = |family: &&String| family.contains("Sans") && !family.contains("Mono");
    if let Some(family) = families.iter().find(is_plain).or(families.first()) {
        options.fontdb_mut().set_sans_serif_family(family);
    }
    let tree = resvg::usvg::Tree::from_str(svg, &options).context("drawing the plot")?;
    let size = tree.size().to_int_size().scale_by(PIXELS).context("a plot without size")?;
    let mut pixels =
        resvg::tiny_skia::Pixmap::new(size.width(), size.height()).context("a plot without size")?;
    resvg::render(&tree, resvg::tiny_skia::Transform::from_scale(PIXELS, PIXELS), &mut pixels.as_mut());
    pixels.encode_png().context("writing the picture")
}
