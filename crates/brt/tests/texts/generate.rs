//! What is drawn, where it ends, and where prompts come from.

use std::{io::Write, process::Stdio};

use crate::Texts;

/// What is drawn depends on the seed alone: a sample of several is that of its own seed.
#[test]
fn samples_side_by_side_are_those_drawn_alone() {
    let texts = Texts::new();
    let several = texts.records(&["--prompt", "fn ", "--samples", "3", "--seed", "7", "--tokens", "30"]);
    assert_eq!(several.len(), 3);
    for (idx, record) in several.iter().enumerate() {
        let seed = (7 + idx).to_string();
        let alone = texts.records(&["--prompt", "fn ", "--seed", &seed, "--tokens", "30"]);
        assert_eq!((&record["text"], &record["tokens"]), (&alone[0]["text"], &alone[0]["tokens"]));
    }
    assert_ne!(several[0]["text"], several[1]["text"]);
}

/// What is printed as it comes is what the record says; a stop string ends it and is not printed.
#[test]
fn text_stops_before_a_stop_string() {
    let texts = Texts::new();
    let prompt = ["--prompt", "pub(crate) fn ", "--seed", "3", "--tokens", "200"];
    let whole = texts.records(&prompt).remove(0);
    let text = whole["text"].as_str().unwrap();
    assert_eq!(texts.generate(&prompt), format!("pub(crate) fn {text}\n"));
    assert_eq!(whole["finish_reason"], "length");
    let log_probabilities = whole["log_probabilities"].as_array().unwrap();
    assert_eq!(log_probabilities.len(), 200);
    assert!(log_probabilities.iter().all(|log| log.as_f64().unwrap() <= 0.));

    let characters: Vec<char> = text.chars().collect();
    let stop: String = characters[50..53].iter().collect();
    let stopped = texts.records(&[&prompt[..], &["--stop", &stop]].concat()).remove(0);
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["text"].as_str(), text.split_once(&stop).map(|(before, _)| before));
}

#[test]
fn prompts_come_from_standard_input() {
    let texts = Texts::new();
    let run = texts.text("run");
    let mut child = texts
        .command(&["generate", &run, "--prompt", "-", "--tokens", "5", "--seed", "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all("fn é".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let given = texts.generate(&["--prompt", "fn é", "--tokens", "5", "--seed", "2"]);
    assert_eq!(format!("fn é{}", String::from_utf8(output.stdout).unwrap()), given);
}
