//! What a worker does not start with.

use brt_data::Tokenizer;
use brt_serve::{Limits, Worker, WorkerConfig};

use crate::common::model;

#[test]
fn mistakes_of_whoever_starts_it() {
    let start = |limits: Limits, sessions: Option<&str>, tokenizer: Tokenizer| {
        let config = WorkerConfig { name: "tiny".into(), limits, sessions: sessions.map(Into::into) };
        Worker::start(model(0), tokenizer, config).map(|_| ()).unwrap_err().to_string()
    };
    let bytes = Tokenizer::t5_bytes;
    let none = Limits { max_running: 0, ..Limits::default() };
    assert_eq!(start(none, None, bytes()), "max_running: expected at least 1, got 0");
    let none = Limits { stall_time: std::time::Duration::ZERO, ..Limits::default() };
    assert_eq!(start(none, None, bytes()), "stall_time: expected at least 1, got 0");
    assert_eq!(start(Limits::default(), Some("/dev/null"), bytes()), "/dev/null: cannot keep sessions there");
    let texts = ["a b c d e f g h i j ".repeat(9), "abcdefghij".repeat(9)];
    let large = brt_data::train_bpe(texts.into_iter(), 262).unwrap();
    assert_eq!(
        start(Limits::default(), None, large),
        "tokenizer: expected one of at most 260 tokens as the model has, got one of 262"
    );
}
