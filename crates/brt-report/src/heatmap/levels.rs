//! How many bits have which colour: the levels of the page, their classes, and what the legends say.

/// Where the levels of surprise begin, in bits; below the first one nothing is coloured.
const SURPRISE_BITS: [f64; 8] = [0.5, 1., 2., 3., 4., 6., 8., 12.];

/// Where the levels of a gain or a loss begin, in bits.
const GAIN_BITS: [f64; 4] = [0.25, 1., 2., 4.];

/// Returns the level of a surprise.
pub(super) fn of_surprise(bits: f64) -> usize {
    level(bits, &SURPRISE_BITS)
}

/// Returns the class of what the state gains: `g` where it helps, `h` where it hurts; `None` where it does little.
pub(super) fn class_of_gain(bits: f64) -> Option<String> {
    let side = if bits > 0. { 'g' } else { 'h' };
    Some(level(bits.abs(), &GAIN_BITS)).filter(|&level| level > 0).map(|level| format!("{side}{level}"))
}

fn level(bits: f64, starts: &[f64]) -> usize {
    starts.iter().filter(|&&start| bits >= start).count()
}

/// Returns the rules that colour the classes in the views where they count.
pub(super) fn css() -> String {
    let share = |level: usize, starts: &[f64]| level as f64 / starts.len() as f64;
    let rule = |selector: String, colour: &str, share: f64| {
        format!("{selector}{{background:rgb(var(--{colour})/calc(var(--most)*{share}))}}\n")
    };
    let surprise = (1..=SURPRISE_BITS.len())
        .map(|level| rule(format!(".va .a{level},.vb .b{level}"), "hot", share(level, &SURPRISE_BITS)));
    let gain = (1..=GAIN_BITS.len()).flat_map(|level| {
        let share = share(level, &GAIN_BITS);
        [("g", "cool"), ("h", "hot")].map(|(side, colour)| rule(format!(".vc .{side}{level}"), colour, share))
    });
    surprise.chain(gain).collect()
}

/// Returns the legend of a view of surprise: its letter, and what it shows.
pub(super) fn surprise_legend(view: char, caption: &str) -> String {
    let labels = ranges(&SURPRISE_BITS).into_iter().enumerate();
    let swatches = labels.map(|(level, label)| swatch(&format!("{view}{level}"), &label)).collect();
    legend(view, caption, swatches)
}

/// Returns the legend of what the state gains.
pub(super) fn gain_legend(caption: &str) -> String {
    let labels: Vec<(usize, String)> = ranges(&GAIN_BITS).into_iter().enumerate().skip(1).collect();
    let side = |side: char, sign: char| {
        let one = move |(level, label): &(usize, String)| {
            swatch(&format!("{side}{level}"), &format!("{sign}{label}"))
        };
        labels.iter().map(one)
    };
    let middle = std::iter::once(swatch("g0", "±0"));
    legend('c', caption, side('h', '−').rev().chain(middle).chain(side('g', '+')).collect())
}

/// Returns what the levels are called, from the one without colour on.
fn ranges(starts: &[f64]) -> Vec<String> {
    let first = format!("0–{}", starts[0]);
    let inner = starts.windows(2).map(|pair| format!("{}–{}", pair[0], pair[1]));
    let last = starts.last().map(|start| format!("{start}+"));
    std::iter::once(first).chain(inner).chain(last).collect()
}

fn swatch(class: &str, label: &str) -> String {
    format!("<li><i class={class}></i>{label}</li>")
}

fn legend(view: char, caption: &str, swatches: String) -> String {
    format!("<div class=\"key v{view}\">{caption}<ol>{swatches}</ol></div>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_begin_where_they_say() {
        assert_eq!([0., 0.49, 0.5, 2.9, 3., 12., 99.].map(of_surprise), [0, 0, 1, 3, 4, 8, 8]);
        let classes = [-9., -0.25, -0.2, 0., 0.24, 0.25, 1.5, 4.].map(class_of_gain);
        let classes: Vec<&str> = classes.iter().map(|class| class.as_deref().unwrap_or("-")).collect();
        assert_eq!(classes, ["h4", "h1", "-", "-", "-", "g1", "g2", "g4"]);
        assert_eq!(ranges(&GAIN_BITS), ["0–0.25", "0.25–1", "1–2", "2–4", "4+"]);
    }

    #[test]
    fn every_level_has_a_colour_and_a_swatch() {
        let css = css();
        for class in [".va .a1,", ".vb .b8{", ".vc .g4{", ".vc .h1{"] {
            assert!(css.contains(class), "{class}");
        }
        assert!(css.contains("calc(var(--most)*0.125)") && css.contains("calc(var(--most)*1)"));
        assert_eq!(surprise_legend('a', "").matches("<li>").count(), SURPRISE_BITS.len() + 1);
        assert_eq!(gain_legend("").matches("<li>").count(), 2 * GAIN_BITS.len() + 1);
        assert!(gain_legend("").contains("<i class=h4></i>−4+</li>"));
    }
}
