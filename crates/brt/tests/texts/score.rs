//! What a text costs a model.

use std::fs;

use serde_json::Value;

use crate::Texts;

/// The bits of a text, its tokens, and the page are those of `brt eval` on the same text.
#[test]
fn scores_are_those_of_the_evaluation() {
    let texts = Texts::new();
    let (run, text) = (texts.text("run"), texts.text("text/test/a.rs"));
    let [json, lines, page] = ["eval.json", "nats.jsonl", "page.html"].map(|name| texts.text(name));
    let data = texts.text("corpus");
    texts.print(&["eval", &run, "--data", &data, "--max-document-len", "0", "--json", &json]);
    let evaluations: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let document = |evaluation: usize| {
        let documents = evaluations[evaluation]["documents"].as_array().unwrap();
        documents
            .iter()
            .find(|document| document["name"].as_str().unwrap().ends_with("a.rs"))
            .unwrap()
            .clone()
    };
    let scores = texts.print(&["score", &run, &text, "--jsonl", &lines, "--heatmap", &page]);
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

/// The documents of a corpus are scored as they lie there, whole or their first tokens.
#[test]
fn documents_of_a_corpus_are_scored() {
    let texts = Texts::new();
    let (run, data, lines) = (texts.text("run"), texts.text("corpus"), texts.text("corpus.jsonl"));
    let text = texts.text("text/test/a.rs");
    let of_file = texts.print(&["score", &run, &text, "--carried-only"]);
    let of_corpus = texts.print(&["score", &run, "--data", &data, "--carried-only", "--jsonl", &lines]);
    let numbers = |scores: &str| {
        let line = scores.lines().find(|line| line.ends_with("a.rs")).unwrap();
        line.split("  ").take(2).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&of_corpus), numbers(&of_file));
    let lines: Vec<Value> =
        fs::read_to_string(lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_text = lines.iter().filter(|line| line["file"].as_str().unwrap().ends_with("a.rs"));
    let joined: String = of_text.map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(joined, fs::read_to_string(&text).unwrap());
    // Documents of one group are drawn together in a bootstrap: it is that of the corpus.
    let groups: Vec<_> = lines.iter().map(|line| line["group"].as_str().unwrap_or_default()).collect();
    assert!(groups.iter().all(|group| !group.is_empty()), "{groups:?}");
    let short = texts.print(&["score", &run, "--data", &data, "--carried-only", "--max-document-len", "100"]);
    // The first token is not predicted.
    assert!(short.lines().next().unwrap().contains("  99 bytes"), "{short}");
}

/// A state goes before a text that is scored; without recurrent state it costs what the evaluation without it costs, from
/// the first block on.
#[test]
fn a_text_is_scored_behind_a_state() {
    let texts = Texts::new();
    let run = texts.text("run");
    let text = fs::read_to_string(texts.path("text/test/a.rs")).unwrap();
    let (first, rest) = text.split_at(1000); // A whole number of blocks.
    let [first_path, rest_path, state] =
        ["score-1.txt", "score-2.txt", "score.brt"].map(|name| texts.text(name));
    fs::write(&first_path, first).unwrap();
    fs::write(&rest_path, rest).unwrap();
    texts.generate(&["--prompt-file", &first_path, "--max-tokens", "0", "--save-state", &state]);
    let nats = |arguments: &[&str]| {
        let lines = texts.text("score.jsonl");
        texts.print(&[&["score", run.as_str(), "--jsonl", &lines], arguments].concat());
        let lines = fs::read_to_string(lines).unwrap();
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let whole_path = texts.text("text/test/a.rs");
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
