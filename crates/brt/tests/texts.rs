//! Reading and writing texts with a trained model: generate, score, state.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use common::{Place, stderr};
use serde_json::Value;

/// A trained run, the same for all tests of this program.
fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::new();
        assert!(place.train("run").status().unwrap().success());
        place
    })
}

fn print(arguments: &[&str]) -> String {
    let output = place().brt(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn generate(arguments: &[&str]) -> String {
    let run = place().text("run");
    print(&[&["generate", run.as_str(), "--threads", "1"], arguments].concat())
}

fn records(arguments: &[&str]) -> Vec<Value> {
    generate(&[arguments, &["--json"]].concat())
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A book that is read in two sittings goes on as if it had been read in one, with the same random numbers.
#[test]
fn a_saved_state_goes_on_where_the_text_ended() {
    let text = fs::read_to_string(place().path("text/test/a.rs")).unwrap();
    let (first, rest) = text.split_at(1001);
    for (name, part) in [("first.txt", first), ("rest.txt", rest), ("whole.txt", &text)] {
        fs::write(place().path(name), part).unwrap();
    }
    let state = place().text("book.brt");
    generate(&["--prompt-file", &place().text("first.txt"), "--max-tokens", "0", "--save-state", &state]);
    let draw = ["--max-tokens", "40", "--seed", "5"];
    let two =
        records(&[&["--load-state", &state, "--prompt-file", &place().text("rest.txt")], &draw[..]].concat());
    let one = records(&[&["--prompt-file", &place().text("whole.txt")], &draw[..]].concat());
    assert_eq!(two[0]["text"], one[0]["text"]);
    assert_eq!(two[0]["num_tokens"], text.len() as u64 + 40);
    assert_eq!(two[0]["num_prompt_tokens"], rest.len() as u64);
    // Without a prompt, too.
    let more = generate(&["--load-state", &state, "--max-tokens", "8", "--greedy"]);
    assert_eq!(
        more,
        generate(&["--prompt-file", &place().text("first.txt"), "--max-tokens", "8", "--greedy"])
    );
}

/// What is drawn depends on the seed alone: a sample of several is that of its own seed.
#[test]
fn samples_side_by_side_are_those_drawn_alone() {
    let several = records(&["--prompt", "fn ", "--samples", "3", "--seed", "7", "--tokens", "30"]);
    assert_eq!(several.len(), 3);
    for (idx, record) in several.iter().enumerate() {
        let seed = (7 + idx).to_string();
        let alone = records(&["--prompt", "fn ", "--seed", &seed, "--tokens", "30"]);
        assert_eq!((&record["text"], &record["tokens"]), (&alone[0]["text"], &alone[0]["tokens"]));
    }
    assert_ne!(several[0]["text"], several[1]["text"]);
}

/// What is printed as it comes is what the record says; a stop string ends it and is not printed.
#[test]
fn text_stops_before_a_stop_string() {
    let prompt = ["--prompt", "pub(crate) fn ", "--seed", "3", "--tokens", "200"];
    let whole = records(&prompt).remove(0);
    let text = whole["text"].as_str().unwrap();
    assert_eq!(generate(&prompt), format!("pub(crate) fn {text}\n"));
    assert_eq!(whole["finish_reason"], "length");
    let log_probabilities = whole["log_probabilities"].as_array().unwrap();
    assert_eq!(log_probabilities.len(), 200);
    assert!(log_probabilities.iter().all(|log| log.as_f64().unwrap() <= 0.));

    let characters: Vec<char> = text.chars().collect();
    let stop: String = characters[50..53].iter().collect();
    let stopped = records(&[&prompt[..], &["--stop", &stop]].concat()).remove(0);
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["text"].as_str(), text.split_once(&stop).map(|(before, _)| before));
}

/// The bits of a text, its tokens, and the page are those of `brt eval` on the same text.
#[test]
fn scores_are_those_of_the_evaluation() {
    let (run, text) = (place().text("run"), place().text("text/test/a.rs"));
    let [json, lines, page] = ["eval.json", "nats.jsonl", "page.html"].map(|name| place().text(name));
    let data = place().text("corpus");
    print(&["eval", &run, "--data", &data, "--max-document-len", "0", "--json", &json]);
    let evaluations: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let document = |evaluation: usize| {
        let documents = evaluations[evaluation]["documents"].as_array().unwrap();
        documents
            .iter()
            .find(|document| document["name"].as_str().unwrap().ends_with("a.rs"))
            .unwrap()
            .clone()
    };
    let scores = print(&["score", &run, &text, "--jsonl", &lines, "--heatmap", &page]);
    let nats: Vec<Value> =
        fs::read_to_string(lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(nats[0]["nats"].is_null());
    let sum = |key: &str| nats.iter().filter_map(|line| line[key].as_f64()).sum::<f64>();
    for (key, evaluation, rule) in [("nats", 0, "carried"), ("reset_nats", 2, "reset_blocks")] {
        assert_eq!(evaluations[evaluation]["state_rule"], rule);
        let expected = document(evaluation)["loss_nats"].as_f64().unwrap();
        assert!((sum(key) - expected).abs() < 1e-3 * expected, "{key}: {} {expected}", sum(key));
    }
    let bytes = document(0)["num_bytes"].as_f64().unwrap();
    let bits = format!("{:.4} bits/byte", sum("nats") / std::f64::consts::LN_2 / bytes);
    assert!(scores.starts_with(&bits), "{scores}, expected {bits}");
    assert!(scores.contains("with the state reset in every block"), "{scores}");
    let joined: String = nats.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(joined, fs::read_to_string(&text).unwrap());
    let page = fs::read_to_string(page).unwrap();
    assert!(
        page.starts_with("<!doctype html>") && page.contains("Rec:lstm:dual, 2 layers"),
        "{}",
        &page[..200]
    );
}

#[test]
fn states_are_shown_and_compared() {
    let [a, b] = ["a.brt", "b.brt"].map(|name| place().text(name));
    for (path, tokens) in [(&a, "0"), (&b, "9")] {
        generate(&["--prompt", "fn main() {}", "--tokens", tokens, "--save-state", path]);
    }
    let shown = print(&["state", "show", &a, "--run", &place().text("run")]);
    assert!(shown.starts_with("after 12 tokens, of the model "), "{shown}");
    assert!(shown.contains("layers.1.recurrent "), "{shown}");
    assert!(shown.contains("layers.1.cell.attention_gate.openness.mean"), "{shown}");
    let shown: Value = serde_json::from_str(&print(&["state", "show", &a, "--json"])).unwrap();
    let parts = shown["parts"].as_array().unwrap();
    let keys = parts.iter().find(|part| part["name"] == "layers.0.keys").unwrap();
    assert!((keys["max_norm"].as_f64().unwrap() - 1.).abs() < 1e-4, "keys are unit vectors: {keys}");
    let same: Value = serde_json::from_str(&print(&["state", "diff", &a, &a, "--json"])).unwrap();
    for part in same["differences"].as_array().unwrap() {
        let is_same = part["relative"] == 0. && (part["min_cosine"].as_f64().unwrap() - 1.).abs() < 1e-9;
        assert!(part["num_vectors"] == 0 || is_same, "{part}");
    }
    let other: Value = serde_json::from_str(&print(&["state", "diff", &a, &b, "--json"])).unwrap();
    assert_eq!(other["num_tokens"], serde_json::json!([12, 21]));
    assert!(
        other["differences"].as_array().unwrap().iter().any(|part| part["relative"].as_f64().unwrap() > 0.01)
    );
}

/// A signal ends a text that is being written, and its state is saved all the same.
#[test]
fn an_interrupted_text_is_saved() {
    let state = place().text("interrupted.brt");
    let arguments = [
        "generate",
        &place().text("run"),
        "--prompt",
        "fn ",
        "--max-tokens",
        "100000000",
        "--save-state",
        &state,
    ];
    let mut child =
        place().command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
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
    let shown: Value = serde_json::from_str(&print(&["state", "show", &state, "--json"])).unwrap();
    let text = String::from_utf8([&beginning[..], &rest].concat()).unwrap();
    let text = text.strip_suffix('\n').unwrap();
    let num_tokens = shown["num_tokens"].as_u64().unwrap() as usize;
    assert!(text.chars().count() <= num_tokens && num_tokens <= text.len(), "{num_tokens} tokens: {text}");
    let more = ["--load-state", &state, "--max-tokens", "5", "--greedy"];
    assert_eq!(records(&more)[0]["num_tokens"], num_tokens + 5);
    // A reader that goes away ends it quietly.
    let mut child =
        place().command(&arguments[..6]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "it goes on without a reader");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(stderr(&child.wait_with_output().unwrap()), "");
    // It is no loss of the state.
    fs::remove_file(&state).unwrap();
    let mut child =
        place().command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(stderr(&output).contains("interrupted.brt: the state after "), "{}", stderr(&output));
    assert!(print(&["state", "show", &state]).starts_with("after "));
}

/// A state goes before a text that is scored; without recurrent state it costs what the evaluation without it costs, from
/// the first block on.
#[test]
fn a_text_is_scored_behind_a_state() {
    let run = place().text("run");
    let text = fs::read_to_string(place().path("text/test/a.rs")).unwrap();
    let (first, rest) = text.split_at(1000); // A whole number of blocks.
    let [first_path, rest_path, state] =
        ["score-1.txt", "score-2.txt", "score.brt"].map(|name| place().text(name));
    fs::write(&first_path, first).unwrap();
    fs::write(&rest_path, rest).unwrap();
    generate(&["--prompt-file", &first_path, "--max-tokens", "0", "--save-state", &state]);
    let nats = |arguments: &[&str]| {
        let lines = place().text("score.jsonl");
        print(&[&["score", run.as_str(), "--jsonl", &lines], arguments].concat());
        let lines = fs::read_to_string(lines).unwrap();
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let whole_path = place().text("text/test/a.rs");
    let (whole, behind) = (nats(&[&whole_path]), nats(&[&rest_path, "--load-state", &state]));
    assert_eq!(behind.len(), rest.len());
    for key in ["nats", "reset_nats"] {
        for (behind, whole) in behind.iter().zip(&whole[1000..]) {
            // The first token was predicted while the state before was still carried.
            let (got, expected) = (behind[key].as_f64().unwrap(), whole[key].as_f64().unwrap());
            let is_first = behind["idx"] == 0 && key == "reset_nats";
            assert!(is_first || (got - expected).abs() < 1e-3, "{key}: {behind} {whole}");
        }
    }
    assert!(nats(&[&rest_path, "--carried-only"]).iter().all(|line| line.get("reset_nats").is_none()));
}

/// In bfloat16 a text is as likely but for rounding, and its state goes over to float32.
#[test]
fn bfloat16_texts() {
    let state = place().text("half.brt");
    let half = ["--precision", "bf16"];
    let drawn =
        records(&[&["--prompt", "fn main", "--tokens", "20", "--save-state", &state], &half[..]].concat());
    assert_eq!(drawn[0]["num_tokens"], 27);
    assert_eq!(records(&["--load-state", &state, "--tokens", "3"])[0]["num_tokens"], 30);
    let (run, text) = (place().text("run"), place().text("text/test/a.rs"));
    let bits = |extra: &[&str]| {
        let printed = print(&[&["score", run.as_str(), &text, "--carried-only"], extra].concat());
        printed.split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let (exact, rounded) = (bits(&[]), bits(&half));
    assert!((exact - rounded).abs() < 0.02 * exact, "{exact} {rounded}");
}

#[test]
fn prompts_come_from_standard_input() {
    let run = place().text("run");
    let mut child = place()
        .command(&["generate", &run, "--prompt", "-", "--tokens", "5", "--seed", "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all("fn é".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let given = generate(&["--prompt", "fn é", "--tokens", "5", "--seed", "2"]);
    assert_eq!(format!("fn é{}", String::from_utf8(output.stdout).unwrap()), given);
}

#[test]
fn mistakes_are_told_in_one_line() {
    let place = place();
    let state = place.text("mistakes.brt");
    generate(&["--prompt", "fn", "--tokens", "0", "--save-state", &state]);
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
