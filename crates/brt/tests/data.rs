//! `brt data` as a user meets it: the real program, killed, split into jobs, given bad input, and trained from.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use common::{Place, stderr};
use tempfile::TempDir;

/// Runs `brt data` and returns what it printed; it must succeed.
fn data(arguments: &str) -> String {
    let output = try_data(arguments);
    assert!(output.status.success(), "{arguments}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn try_data(arguments: &str) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brt"));
    command.arg("data").args(arguments.split(' ')).env_clear().stdin(Stdio::null());
    command
}

fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().display().to_string();
    (folder, name)
}

/// Returns the files of a folder but for locks.
fn files(folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|path| path.is_file() && path.file_name().unwrap() != ".lock");
    entries.map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
}

/// Writes 40,000 rows, 30 MB, some of which cannot be read.
fn write_rows(path: &Path) {
    let text = "It was the best of times, it was the worst of times; ".repeat(13);
    let row = |i: usize| match i % 97 {
        13 => "{\"text\": null}\n".to_owned(),
        31 => "not JSON\n".to_owned(),
        53 => "{\"text\": \"\"}\n".to_owned(),
        _ => format!("{{\"text\": \"{i} {text}\\n\", \"id\": {i}}}\n"),
    };
    fs::write(path, (0..40_000).map(row).collect::<String>()).unwrap();
}

#[test]
fn killed_again_and_again_it_ends_with_the_same_bytes() {
    let (_folder, at) = folder();
    write_rows(Path::new(&format!("{at}/rows.jsonl")));
    let prepare = |out: &str| {
        format!("prepare --corpus {at}/rows.jsonl --on-error skip --shard-bytes 2000000 --out {at}/{out}")
    };
    data(&prepare("whole"));
    let start = || command(&prepare("killed")).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    // Once when a shard is whole, which is then not written again, and then at growing delays.
    let (shard, next) =
        (format!("{at}/killed/00000.train.tokens"), format!("{at}/killed/.prepare/00000.json"));
    let mut child = start();
    while !Path::new(&next).exists() && child.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let written = || fs::metadata(&shard).unwrap().modified().unwrap();
    let first = written();
    for attempt in 0..200u64 {
        let mut child = start();
        sleep(Duration::from_millis(20 + attempt * 13 % 120));
        child.kill().unwrap();
        child.wait().unwrap();
        if Path::new(&format!("{at}/killed/manifest.json")).exists() {
            break;
        }
    }
    data(&prepare("killed"));
    assert_eq!(written(), first);
    let whole = files(&format!("{at}/whole"));
    assert!(whole.keys().any(|name| name.starts_with("00013.train.tokens")), "{:?}", whole.keys());
    assert!(files(&format!("{at}/killed")) == whole);
    data(&format!("verify {at}/killed"));
}

#[test]
fn jobs_and_merge_from_the_command_line() {
    let (_folder, at) = folder();
    for i in 0..30 {
        fs::write(format!("{at}/{i}.txt"), format!("{i} ").repeat(100 + i * 17)).unwrap();
    }
    fs::write(format!("{at}/.hidden"), "counted once").unwrap();
    let (_out, out) = folder();
    data(&format!("prepare --corpus files:{at} --out {out}/one"));
    for job in 1..=3 {
        data(&format!("prepare --corpus files:{at} --out {out}/jobs --shard {job}/3"));
    }
    let parts = format!("{out}/jobs/part-1-of-3 {out}/jobs/part-2-of-3 {out}/jobs/part-3-of-3");
    data(&format!("merge {parts} --out {out}/merged"));
    assert_eq!(data(&format!("inspect {out}/merged")), data(&format!("inspect {out}/one")));
    let two = parts.rsplit_once(' ').unwrap().0;
    let output = try_data(&format!("merge {two} --out {out}/two"));
    assert!(
        stderr(&output).contains("expected the parts of 3 jobs, got none of job 3"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn bad_input_stops_with_its_line_or_is_counted() {
    let (_folder, at) = folder();
    let rows = [r#"{"text": "one two three"}"#, r#"{"text": 7}"#, "{}", "not JSON", r#"{"text": "four"}"#];
    fs::write(format!("{at}/rows.jsonl"), rows.join("\n")).unwrap();
    let output = try_data(&format!("prepare --corpus {at}/rows.jsonl --out {at}/strict"));
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(message.starts_with("error: ") && message.contains("rows.jsonl: line 2: "), "{message}");
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");

    let output = try_data(&format!("prepare --corpus {at}/rows.jsonl --out {at}/lenient --on-error skip"));
    let (printed, message) = (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output));
    assert!(output.status.success(), "{message}");
    assert_eq!(printed.lines().filter(|line| line.starts_with("left out")).count(), 3, "{printed}");
    for place in ["rows.jsonl:2: ", "rows.jsonl:3: ", "rows.jsonl:4: "] {
        assert!(message.contains(place), "{message}");
    }
    let words: Vec<&str> =
        printed.lines().find(|line| line.starts_with("train")).unwrap().split_whitespace().collect();
    assert_eq!(words, ["train", "2", "17", "17", "4"]);
}

#[test]
fn mistakes_are_told_in_one_line() {
    let (_folder, at) = folder();
    fs::write(format!("{at}/a.txt"), "text").unwrap();
    let cases = [
        (
            format!("prepare --corpus books --on-error skip --out {at}/o"),
            "--corpus books: expected no options",
        ),
        (
            format!("prepare --corpus books --validation 0.3 --out {at}/o"),
            "--corpus books: expected no options",
        ),
        (format!("prepare --corpus {at}/a.txt --tokenizer {at}/a.txt --out {at}/o"), "a.txt"),
        (format!("prepare --corpus {at}/a.txt --tokenizer none --out {at}/o"), "none"),
        (format!("prepare --corpus files:{at} --group-by repo --out {at}/o"), "group-by"),
        (format!("verify {at}/none"), "expected a prepared corpus with a manifest.json, got none"),
        (format!("inspect {at}"), "expected a prepared corpus with a manifest.json, got none"),
        (format!("merge {at} --out {at}/o"), "part.json: expected the part.json of a finished job"),
        (format!("train-tokenizer --corpus books --vocab-size 9 --out {at}/t.json"), "257"),
    ];
    for (arguments, expected) in cases {
        let output = try_data(&arguments);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {message}");
        assert!(message.contains("error: ") && message.contains(expected), "{arguments}: {message}");
        assert!(message.trim_end().lines().count() <= 2, "{arguments}: {message}");
    }
    let output = try_data(&format!("prepare --corpus nothing --out {at}/o"));
    assert!(stderr(&output).contains("expected `code`, `books`, "), "{}", stderr(&output));
    let output = try_data(&format!("prepare --corpus books --shard 4/3 --out {at}/o"));
    assert!(stderr(&output).contains("expected I/N with I from 1 to N, got 4/3"), "{}", stderr(&output));
}

/// From texts to a tokenizer of their own, a corpus, a run, its bits per byte, and new text.
#[test]
fn a_model_of_word_pieces() {
    let place = Place::new();
    let (text, bpe, corpus) = (place.text("text"), place.text("bpe.json"), place.text("pieces"));
    data(&format!("train-tokenizer --corpus files:{text} --vocab-size 300 --out {bpe}"));
    data(&format!("prepare --corpus files:{text} --tokenizer {bpe} --out {corpus}"));
    let (config, run) = (place.text("tiny.toml"), place.text("run"));
    let arguments = ["train", &config, "--data", &corpus, "--out", &run, "--model.vocab_size", "300"];
    let output = place.brt(&[&arguments[..], &["--train.num_steps", "20", "--threads", "1"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let eval = place.brt(&["eval", &run, "--data", &corpus]);
    let eval = String::from_utf8(eval.stdout).unwrap();
    assert!(eval.contains("bits/byte, mean of ") && eval.contains("word perplexity, over "), "{eval}");
    let output = place.brt(&["generate", &run, "--prompt", "fn main() {", "--tokens", "20"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stdout.starts_with(b"fn main() {") && output.stdout.len() > 30, "{output:?}");

    let output = place.brt(&arguments.map(|argument| if argument == "300" { "299" } else { argument }));
    assert!(stderr(&output).contains("300"), "{}", stderr(&output));
}
