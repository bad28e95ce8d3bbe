//! Many at once.

use std::{thread, time::Instant};

use serde_json::json;

use crate::common::{Server, text};

const PROMPTS: [&str; 8] =
    ["a", "second prompt", "3", "the fourth of them", "five", "s i x", "seven, of another length", "eighth"];

#[test]
fn eight_at_once_get_what_each_gets_alone() {
    // With room for three texts some wait and join while others are in the middle.
    for max_running in [3, 32] {
        let server = Server::limited(|limits| limits.max_running = max_running);
        for sampling in [json!({"temperature": 0}), json!({"temperature": 0.8, "seed": 3})] {
            let body = |idx: usize| {
                let mut body = json!({"prompt": PROMPTS[idx], "max_tokens": 20 + 7 * idx});
                body.as_object_mut().unwrap().extend(sampling.as_object().unwrap().clone());
                body
            };
            let ask = |idx: usize| text(&server.ask(body(idx))).to_owned();
            let alone: Vec<String> = (0..8).map(ask).collect();
            let together: Vec<String> = thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|idx| scope.spawn(move || ask(idx))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(together, alone);
        }
    }
}

#[test]
fn all_prompts_of_a_request_find_room_in_turn() {
    let server = Server::limited(|limits| limits.max_running = 2);
    let answer = server.ask(json!({"prompt": PROMPTS, "n": 3, "max_tokens": 5, "temperature": 0}));
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 24);
    for (idx, choice) in choices.iter().enumerate() {
        assert_eq!(choice["text"], server.text(PROMPTS[idx / 3], 5));
    }
}

#[test]
fn no_more_run_than_may() {
    let server = Server::limited(|limits| limits.max_running = 5);
    let body = json!({"prompt": PROMPTS, "n": 3, "max_tokens": 60, "seed": 1});
    let largest = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| server.ask(body.clone()))).collect();
        let mut largest = 0;
        while threads.iter().any(|thread| !thread.is_finished()) {
            largest = largest.max(server.health()["running"].as_u64().unwrap());
        }
        largest
    });
    assert!((2..=5).contains(&largest), "{largest}");
    // More choices than places come one after the other.
    let server = Server::limited(|limits| limits.max_running = 1);
    assert_eq!(server.ask(body.clone())["choices"].as_array().unwrap().len(), 24);
}

/// A short text is not held up by a long prompt that came first.
#[test]
fn a_long_prompt_does_not_hold_up_others() {
    let server = Server::start();
    let long = "a long prompt. ".repeat(4000);
    let start = Instant::now();
    let connection = server.send(&json!({"prompt": long, "max_tokens": 1}));
    server.wait_for("running", 1);
    assert!(!server.text("short", 8).is_empty());
    let short = start.elapsed();
    let answer = crate::common::Answer::read(connection);
    assert_eq!(answer.status, 200);
    assert!(short < start.elapsed() / 2, "{short:?} of {:?}", start.elapsed());
}
