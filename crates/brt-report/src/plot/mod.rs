//! Line plots as SVG, for screens light and dark, and plain for programs that know little CSS.

mod range;

pub use self::range::Range;
use self::range::short;

/// Width of every plot in its own units; small, so that text stays readable on a narrow screen.
pub const WIDTH: f64 = 480.;
const LEFT: f64 = 52.;
const RIGHT: f64 = 12.;

/// Colours by contestant. Each keeps a contrast of 3 to its background, and dashes tell the lines apart without colour.
const STYLE: &str = "\
.brt{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;\
--ink:#24292f;--soft:#59636e;--grid:#e4e8ec;--c0:#59636e;--c1:#c8440b;--c2:#0b6bcb;--c3:#0d7a4f;--c4:#8a4bb8;--c5:#8a6100}\
@media(prefers-color-scheme:dark){.brt{\
--ink:#e6edf3;--soft:#9aa5b1;--grid:#2b323a;--c0:#aab4bf;--c1:#ff8a52;--c2:#62aef7;--c3:#4cc38a;--c4:#c79bea;--c5:#d9ae3f}}\
.brt text{fill:var(--soft)}.brt .t{fill:var(--ink);font-weight:600;font-size:13px}.brt .l{fill:var(--ink)}\
.brt .g{stroke:var(--grid);stroke-width:1}.brt .z{stroke:var(--soft);stroke-width:1}\
.brt .s{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\
.brt .c0{stroke:var(--c0);--f:var(--c0)}.brt .c1{stroke:var(--c1);--f:var(--c1)}.brt .c2{stroke:var(--c2);--f:var(--c2)}\
.brt .c3{stroke:var(--c3);--f:var(--c3)}.brt .c4{stroke:var(--c4);--f:var(--c4)}.brt .c5{stroke:var(--c5);--f:var(--c5)}\
.brt .m{fill:var(--f);stroke:none}.brt .d0{stroke-dasharray:6 4}.brt .d2{stroke-dasharray:2 4}.brt .d3{stroke-dasharray:10 4 2 4}";

/// The same colours for programs that know neither variables nor dark screens.
const PLAIN_STYLE: &str = "\
.brt{font-family:sans-serif;font-size:12px}.brt text{fill:#59636e}.brt .t{fill:#24292f;font-weight:600;font-size:13px}.brt .l{fill:#24292f}\
.brt .g{stroke:#e4e8ec;stroke-width:1}.brt .z{stroke:#59636e;stroke-width:1}\
.brt .s{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.brt .m{stroke:none}\
.brt .s.c0{stroke:#59636e}.brt .s.c1{stroke:#c8440b}.brt .s.c2{stroke:#0b6bcb}.brt .s.c3{stroke:#0d7a4f}\
.brt .s.c4{stroke:#8a4bb8}.brt .s.c5{stroke:#8a6100}\
.brt .m.c0{fill:#59636e}.brt .m.c1{fill:#c8440b}.brt .m.c2{fill:#0b6bcb}.brt .m.c3{fill:#0d7a4f}\
.brt .m.c4{fill:#8a4bb8}.brt .m.c5{fill:#8a6100}\
.brt .d0{stroke-dasharray:6 4}.brt .d2{stroke-dasharray:2 4}.brt .d3{stroke-dasharray:10 4 2 4}";

/// Lines of a learning curve that one smoothed point averages, as a part of it.
const SMOOTHING_SHARE: usize = 40;

/// Number of colours.
pub const NUM_COLOURS: usize = 6;

/// One line of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Which of the [`NUM_COLOURS`].
    pub colour: usize,
    /// Whether its points are marked.
    pub marks: Marks,
    /// The points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// One plot with its axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel<'a> {
    /// What is above it.
    pub title: &'a str,
    /// What is below its horizontal axis.
    pub x_label: &'a str,
    /// Logarithmic (base 2) or linear horizontal axis.
    pub x_scale: Scale,
    /// Largest value shown, where the data's own would hide what matters.
    pub y_max: Option<f64>,
    /// Height of the whole panel.
    pub height: f64,
    /// Its lines.
    pub series: Vec<Series>,
}

/// How a horizontal axis maps values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As they are.
    Linear,
    /// By their logarithm to base 2; values below 1 count as 1.
    Log2,
}

/// Whether points are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// They are not.
    None,
    /// By dots.
    Dots,
}

/// Returns a whole SVG file around the given content.
pub fn document(label: &str, height: f64, content: &str) -> String {
    styled(STYLE, label, height, content)
}

/// Returns a whole SVG file for programs that make pictures of it: light, on white.
pub fn plain_document(label: &str, height: f64, content: &str) -> String {
    let ground = format!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>");
    styled(PLAIN_STYLE, label, height, &(ground + content))
}

fn styled(style: &str, label: &str, height: f64, content: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"brt\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{}\"><style>{style}</style>{content}</svg>\n",
        escape(label)
    )
}

/// Draws a legend and panels one below the other; returns the content of a document and its height. Panels without points
/// are left out.
pub fn stack(names: &[(String, usize)], panels: &[Panel<'_>]) -> (String, f64) {
    let (mut content, mut top) = legend(names, 0.);
    top += 6.;
    for panel in panels.iter().filter(|panel| panel.has_points()) {
        content += &panel.draw(top);
        top += panel.height + 8.;
    }
    (content, top)
}

/// Returns the moving average of a curve: each point that of a fortieth of the curve before and after it.
pub fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = points.len() / SMOOTHING_SHARE;
    let around = |i: usize| &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
    let mean = |part: &[(f64, f64)]| part.iter().map(|(_, y)| y).sum::<f64>() / part.len() as f64;
    points.iter().enumerate().map(|(i, (x, _))| (*x, mean(around(i)))).collect()
}

/// Returns the largest value after the first tenth of the curves: the steep start would flatten all that follows.
pub fn without_the_start(series: &[Series]) -> Option<f64> {
    let after = |series: &Series| {
        let start = series.points.len() / 10;
        series.points[start..].iter().map(|(_, y)| *y).fold(f64::NEG_INFINITY, f64::max)
    };
    series.iter().map(after).filter(|max| max.is_finite()).reduce(f64::max)
}

/// Returns a legend of contestants, drawn from `y` down, and its height.
pub fn legend(series: &[(String, usize)], y: f64) -> (String, f64) {
    let (mut text, mut x, mut row) = (String::new(), 4., 0.);
    for (name, colour) in series {
        let width = 44. + 7. * name.chars().count() as f64;
        if x + width > WIDTH {
            (x, row) = (4., row + 18.);
        }
        let line_y = y + row + 8.;
        text += &format!(
            "<path class=\"s c{colour} d{colour}\" d=\"M{x} {line_y}h24\"/><text class=\"l\" x=\"{}\" y=\"{}\">{}</text>",
            x + 30.,
            line_y + 4.,
            escape(name)
        );
        x += width;
    }
    (text, row + 22.)
}

impl Panel<'_> {
    /// Returns whether there is anything to draw.
    pub fn has_points(&self) -> bool {
        self.series.iter().any(|series| !series.points.is_empty())
    }

    /// Returns the plot, drawn from `top` down to `top + height`.
    pub fn draw(&self, top: f64) -> String {
        let (mut xs, mut ys) = (Range::EMPTY, Range::EMPTY);
        for (x, y) in self.series.iter().flat_map(|series| &series.points) {
            xs.include(self.map(*x));
            ys.include(y.min(self.y_max.unwrap_or(f64::INFINITY)));
        }
        ys.widen();
        let (plot_top, bottom) = (top + 26., top + self.height - 36.);
        let to_x = |x: f64| LEFT + xs.share(self.map(x)) * (WIDTH - LEFT - RIGHT);
        let to_y = |y: f64| bottom - ys.share(y).clamp(-1., 2.) * (bottom - plot_top);
        let mut text = format!("<text class=\"t\" x=\"4\" y=\"{}\">{}</text>", top + 14., escape(self.title));
        for tick in ys.ticks(5) {
            let (y, class) = (to_y(tick), if tick == 0. { "z" } else { "g" });
            text += &format!("<path class=\"{class}\" d=\"M{LEFT} {y:.1}H{}\"/>", WIDTH - RIGHT);
            let label = ys.label(tick);
            text +=
                &format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 6., y + 4.);
        }
        for tick in self.x_ticks(&xs) {
            let (x, y) = (to_x(tick), bottom + 16.);
            text += &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", short(tick));
        }
        let (x, y) = ((LEFT + WIDTH - RIGHT) / 2., bottom + 32.);
        text +=
            &format!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", escape(self.x_label));
        let clip = format!("p{}", top as u64);
        let (width, height) = (WIDTH - LEFT - RIGHT + 8., bottom - plot_top + 8.);
        text += &format!(
            "<clipPath id=\"{clip}\"><rect x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{height}\"/></clipPath>",
            LEFT - 4.,
            plot_top - 4.
        );
        let lines: String = self.series.iter().map(|series| self.line(series, to_x, to_y)).collect();
        format!("{text}<g clip-path=\"url(#{clip})\">{lines}</g>")
    }

    fn line(&self, series: &Series, to_x: impl Fn(f64) -> f64, to_y: impl Fn(f64) -> f64) -> String {
        let colour = series.colour;
        let (mut path, mut marks) = (String::new(), String::new());
        for (i, (x, y)) in series.points.iter().enumerate() {
            let (x, y) = (to_x(*x), to_y(*y));
            path += &format!("{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
            if series.marks == Marks::Dots {
                marks += &format!("<circle class=\"m c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
            }
        }
        format!("<path class=\"s c{colour} d{colour}\" d=\"{path}\"/>{marks}")
    }

    fn map(&self, x: f64) -> f64 {
        if self.x_scale == Scale::Log2 { x.max(1.).log2() } else { x }
    }

    fn x_ticks(&self, xs: &Range) -> Vec<f64> {
        if self.x_scale == Scale::Linear {
            return xs.ticks(5);
        }
        if xs.min > xs.max {
            return vec![]; // Nothing to draw.
        }
        let (first, last) = (xs.min.ceil() as i32, xs.max.floor() as i32);
        let stride = ((last - first) / 6 + 1).max(1);
        (first..=last).step_by(stride as usize).map(|power| 2f64.powi(power)).collect()
    }
}

/// Returns text that XML and HTML show as it is.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_data_draws_nothing_that_is_not_a_number() {
        for points in [vec![], vec![(1., 2.)], vec![(1., 2.), (2., 2.)]] {
            let series = vec![Series { colour: 0, marks: Marks::Dots, points }];
            let panel = Panel {
                title: "t < u",
                x_label: "x",
                x_scale: Scale::Log2,
                y_max: None,
                height: 200.,
                series,
            };
            let svg = document("l", 200., &panel.draw(0.));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.contains("t &lt; u"));
        }
    }
}
