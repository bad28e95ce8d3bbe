//! Texts that go on from files, and what those hold.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Texts, common::stderr};

/// A book that is read in two sittings goes on as if it had been read in one, with the same random numbers.
#[test]
fn a_saved_state_goes_on_where_the_text_ended() {
    let texts = Texts::new();
    let text = fs::read_to_string(texts.path("text/test/a.rs")).unwrap();
    let (first, rest) = text.split_at(1001);
    for (name, part) in [("first.txt", first), ("rest.txt", rest), ("whole.txt", &text)] {
        fs::write(texts.path(name), part).unwrap();
    }
    let state = texts.text("book.brt");
    texts.generate(&["--prompt-file", &texts.text("first.txt"), "--max-tokens", "0", "--save-state", &state]);
    let draw = ["--max-tokens", "40", "--seed", "5"];
    let two = texts
        .records(&[&["--load-state", &state, "--prompt-file", &texts.text("rest.txt")], &draw[..]].concat());
    let one = texts.records(&[&["--prompt-file", &texts.text("whole.txt")], &draw[..]].concat());
    assert_eq!(two[0]["text"], one[0]["text"]);
    assert_eq!(two[0]["num_tokens"], text.len() as u64 + 40);
    assert_eq!(two[0]["num_prompt_tokens"], rest.len() as u64);
    // Without a prompt, too.
    let more = texts.generate(&["--load-state", &state, "--max-tokens", "8", "--greedy"]);
    assert_eq!(
        more,
        texts.generate(&["--prompt-file", &texts.text("first.txt"), "--max-tokens", "8", "--greedy"])
    );
}

#[test]
fn states_are_shown_and_compared() {
    let texts = Texts::new();
    let [a, b] = ["a.brt", "b.brt"].map(|name| texts.text(name));
    for (path, tokens) in [(&a, "0"), (&b, "9")] {
        texts.generate(&["--prompt", "fn main() {}", "--tokens", tokens, "--save-state", path]);
    }
    let shown = texts.print(&["state", "show", &a, "--run", &texts.text("run")]);
    assert!(shown.starts_with("after 12 tokens, of the model "), "{shown}");
    assert!(shown.contains("layers.1.recurrent "), "{shown}");
    assert!(shown.contains("layers.1.cell.attention_gate.openness.mean"), "{shown}");
    let shown: Value = serde_json::from_str(&texts.print(&["state", "show", &a, "--json"])).unwrap();
    let parts = shown["parts"].as_array().unwrap();
    let keys = parts.iter().find(|part| part["name"] == "layers.0.keys").unwrap();
    assert!((keys["max_norm"].as_f64().unwrap() - 1.).abs() < 1e-4, "keys are unit vectors: {keys}");
    let same: Value = serde_json::from_str(&texts.print(&["state", "diff", &a, &a, "--json"])).unwrap();
    for part in same["differences"].as_array().unwrap() {
        let is_same = part["relative"] == 0. && (part["min_cosine"].as_f64().unwrap() - 1.).abs() < 1e-9;
        assert!(part["num_vectors"] == 0 || is_same, "{part}");
    }
    let other: Value = serde_json::from_str(&texts.print(&["state", "diff", &a, &b, "--json"])).unwrap();
    assert_eq!(other["num_tokens"], serde_json::json!([12, 21]));
    assert!(
        other["differences"].as_array().unwrap().iter().any(|part| part["relative"].as_f64().unwrap() > 0.01)
    );
}

/// A signal ends a text that is being written, and its state is saved all the same.
#[test]
fn an_interrupted_text_is_saved() {
    let texts = Texts::new();
    let state = texts.text("interrupted.brt");
    let arguments = [
        "generate",
        &texts.text("run"),
        "--prompt",
        "fn ",
        "--max-tokens",
        "100000000",
        "--save-state",
        &state,
    ];
    let mut child = texts.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut beginning = [0; 200];
    out.read_exact(&mut beginning).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = vec![];
    out.read_to_end(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    // Of the prompt and of all that was drawn: a token of this model is a byte, and a byte that is no character is shown as
    // three.
    let shown: Value = serde_json::from_str(&texts.print(&["state", "show", &state, "--json"])).unwrap();
    let text = String::from_utf8([&beginning[..], &rest].concat()).unwrap();
    let text = text.strip_suffix('\n').unwrap();
    let num_tokens = shown["num_tokens"].as_u64().unwrap() as usize;
    assert!(text.chars().count() <= num_tokens && num_tokens <= text.len(), "{num_tokens} tokens: {text}");
    let more = ["--load-state", &state, "--max-tokens", "5", "--greedy"];
    assert_eq!(texts.records(&more)[0]["num_tokens"], num_tokens + 5);
    // A reader that goes away ends it quietly.
    let mut child =
        texts.command(&arguments[..6]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "it goes on without a reader");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(stderr(&child.wait_with_output().unwrap()), "");
    // It is no loss of the state.
    fs::remove_file(&state).unwrap();
    let mut child = texts.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(stderr(&output).contains("interrupted.brt: the state after "), "{}", stderr(&output));
    assert!(texts.print(&["state", "show", &state]).starts_with("after "));
}
