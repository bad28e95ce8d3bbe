//! What the report says.

use std::fs;

use crate::fixture::{ALL, Fixture, line};

#[test]
fn tables_say_which_conclusions_hold() {
    let fixture = Fixture::new(ALL);
    let (code, stdout, stderr) = fixture.tables(&["--devices", "cpu,cpu"]);
    assert_eq!(code, 0, "{stderr}");
    // One seed of each row, two of the headline: 732 steps of 4096 tokens.
    assert!(stderr.contains("6 runs, 2 at a time: about"), "{stderr}");
    for (claim, verdict, numbers) in [
        ("Recurrence is better (below 0 bits/byte)", "holds ", "Rec:fixed:skip − Slide:13L: −0.0"),
        ("Transformer-XL is better", "does not hold ", "XL:2048 − Slide:13L: +0.0"),
        ("The other is better", "undecided ", "the other − Rec:fixed:skip: "),
        ("A step takes as long (from 0.95 to 1.05 times)", "holds ", "Rec:fixed:skip / Slide:13L: "),
        ("Names gain", "holds ", "| +1.00 [+1.00, +1.00] "),
        ("Resetting costs", "holds ", "Rec:fixed:skip: +0.0"),
    ] {
        let line = line(&stdout, claim);
        assert!(line.contains(&format!("| {verdict}")) && line.contains(numbers), "{stdout}");
    }
    // Ours is checked, too, and does not count.
    assert!(line(&stdout, "Resetting costs").contains("(ours)"));
    let verdict = "Of 5 conclusions of the paper 3 hold at this size, 1 do not, 1 are undecided.";
    assert!(stdout.contains(verdict), "{stdout}");
    // The region is kept with the verdict.
    let claims: serde_json::Value = serde_json::from_str(&fixture.read("claims.json")).unwrap();
    assert_eq!((&claims[3]["above"], &claims[3]["verdict"]), (&0.95.into(), &"holds".into()));
    // Tokens are those of a tokenizer that is made for the corpus, and the models have as many.
    assert_eq!(fixture.read("corpus.tokenizer.json"), "1024");
    assert!(fixture.read("runs/xl-seed1/arguments.txt").contains("--model.vocab_size 1024"));
    assert!(fixture.read("runs/xl-seed1/arguments.txt").contains("--train.sinks []"));
    // Words are compared as soon as both models are there.
    let place = |text: &str| stderr.find(text).unwrap_or_else(|| panic!("no {text} in {stderr}"));
    assert!(place("nats of every token") < place("6 of 6 runs ended"), "{stderr}");
}

#[test]
fn a_report_has_everything_with_it() {
    let fixture = Fixture::new(ALL);
    fs::create_dir(fixture.path("out")).unwrap();
    fs::write(fixture.path("out/findings.md"), "It is [so](runs/xl-seed1/) & so.\n\nAnd more.\n").unwrap();
    let (code, _, stderr) = fixture.tables(&["--devices", "cpu,cpu"]);
    assert_eq!(code, 0, "{stderr}");
    let (report, page) = (fixture.read("report.md"), fixture.read("report.html"));
    let best = line(&report, "| Rec:fixed:skip");
    for part in [
        "](runs/rec_a-seed1/) seeds [1](runs/rec_a-seed1/), [2](runs/rec_a-seed2/): ",
        ", 2 seeds ",
        "1.24 (b, c)",
    ] {
        assert!(best.contains(part), "{part} in {best}");
    }
    // What no source gives stays empty.
    assert!(line(&report, "| XL:2048").contains("0.990 (d)"), "{report}");
    assert!(line(&report, "| Slide:13L").contains(" – |"), "{report}");
    for part in [
        "At equal time:",
        "word perplexity",
        "Rec:fixed:skip over Slide:13L, word by word",
        "100 % (0 % of those that lose most, 1 % of all) are names",
        "**`Ada`**: 4.3 bits saved of 5.8; a name or identifier; it last occurred 100 tokens before",
        "* command: cargo xtask tables --configs ",
    ] {
        assert!(report.contains(part), "{part} in:\n{report}");
    }
    for plot in ["models-speed.svg", "models-curves.svg", "models-position.svg", "words.svg"] {
        let svg = fixture.read(plot);
        assert!(page.contains(&svg) && report.contains(&format!("]({plot})")), "{plot}");
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains(" c6"), "{plot}");
    }
    // What a person found stands in both forms.
    assert!(
        report.contains("## What was found\n\nIt is [so](runs/xl-seed1/) & so.\n\nAnd more."),
        "{report}"
    );
    assert!(page.contains("<p>It is <a href=\"runs/xl-seed1/\">so</a> &amp; so.</p>\n<p>And more.</p>"));
    for outside in ["<script", "<link", "src=", "@import", "url(http", "NaN"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for tag in ["table", "tr", "td", "section", "figure", "blockquote", "svg", "dl", "div", "p", "mark"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}
