//! Reading and writing texts with a trained model: generate, score, state.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod generate;
mod score;
mod state;

use common::{Place, stderr};
use serde_json::Value;

/// A trained run and what is asked of it.
pub(crate) struct Texts(Place);

impl Texts {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        assert!(place.train("run").status().unwrap().success());
        Self(place)
    }

    pub(crate) fn print(&self, arguments: &[&str]) -> String {
        let output = self.brt(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn generate(&self, arguments: &[&str]) -> String {
        let run = self.text("run");
        self.print(&[&["generate", run.as_str(), "--threads", "1"], arguments].concat())
    }

    pub(crate) fn records(&self, arguments: &[&str]) -> Vec<Value> {
        let lines = self.generate(&[arguments, &["--json"]].concat());
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl std::ops::Deref for Texts {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

/// In bfloat16 a text is as likely but for rounding, and its state goes over to float32.
#[test]
fn bfloat16_texts() {
    let texts = Texts::new();
    let state = texts.text("half.brt");
    let half = ["--precision", "bf16"];
    let drawn = texts
        .records(&[&["--prompt", "fn main", "--tokens", "20", "--save-state", &state], &half[..]].concat());
    assert_eq!(drawn[0]["num_tokens"], 27);
    assert_eq!(texts.records(&["--load-state", &state, "--tokens", "3"])[0]["num_tokens"], 30);
    let (run, text) = (texts.text("run"), texts.text("text/test/a.rs"));
    let bits = |extra: &[&str]| {
        let printed = texts.print(&[&["score", run.as_str(), &text, "--carried-only"], extra].concat());
        printed.split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let (exact, rounded) = (bits(&[]), bits(&half));
    assert!((exact - rounded).abs() < 0.02 * exact, "{exact} {rounded}");
}

#[test]
fn mistakes_are_told_in_one_line() {
    let place = Texts::new();
    let state = place.text("mistakes.brt");
    place.generate(&["--prompt", "fn", "--tokens", "0", "--save-state", &state]);
    let (run, weights) = (place.text("run"), place.text("run/checkpoints/step-60/model.safetensors"));
    let other = place.text("other");
    let mut train = place.train("other");
    assert!(train.args(["--seed", "2", "--train.num_steps", "20"]).status().unwrap().success());
    let cases: &[(&[&str], &str)] = &[
        (&["generate", &run], "--prompt: expected a text to continue"),
        (&["generate", &run, "--prompt", ""], "--prompt: expected a text to continue, got none"),
        (&["generate", &run, "--prompt-file", "/none"], "/none: cannot read"),
        (
            &["generate", &run, "--prompt", "a", "--top-p", "2"],
            "--top-p: expected a number above 0 and up to 1, got 2",
        ),
        (&["generate", &run, "--prompt", "a", "--stop", ""], "--stop: expected a text, got none"),
        (
            &["generate", &run, "--prompt", "a", "--samples", "2", "--save-state", &state],
            "--save-state: expected one sample, got 2",
        ),
        (
            &["generate", &run, "--prompt", "a", "--save-state", "/none/a"],
            "--save-state /none/a: expected an existing folder, got none",
        ),
        (&["generate", &run, "--load-state", &weights], "expected the state of a text, got other tensors"),
        (&["generate", &other, "--load-state", &state], "expected a state of the model "),
        (&["score", &run, "/none"], "/none: cannot read"),
        (&["state", "show", "/none"], "/none: cannot read"),
        (&["state", "show", &weights], "expected the state of a text"),
    ];
    for (arguments, expected) in cases {
        let output = place.brt(arguments);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(message.starts_with("error: ") && message.contains(expected), "{arguments:?}: {message}");
        assert_eq!(message.trim_end().lines().count(), 1, "{arguments:?}: {message}");
    }
}
