//! The end of a server.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::common::{Answer, Server, text};

#[test]
fn running_requests_end_and_no_more_are_taken() {
    let server = Server::limited(|limits| limits.max_tokens = 100_000);
    let body = json!({"prompt": "the last", "max_tokens": 12_000, "temperature": 0});
    let expected = server.ask(body.clone());
    let running = server.send(&body);
    server.wait_for("running", 1);
    server.signal();
    let start = Instant::now();
    while server.health()["status"] == "ok" {
        assert!(start.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(2));
    }
    let health = server.request("GET /healthz", "", "");
    assert_eq!((health.status, health.json()["running"].as_u64()), (503, Some(1)));
    let answer = server.post(&body);
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (503, "server: expected to go on, got a signal to stop")
    );
    assert_eq!(answer.json()["error"]["code"], "shutting_down");
    let answer = Answer::read(running);
    assert_eq!((answer.status, text(&answer.json())), (200, text(&expected)));
    server.join();
}

/// The second signal, or the end of the time, cuts off what still runs.
#[test]
fn what_runs_for_too_long_is_cut_off() {
    for num_signals in [1, 2] {
        let server = Server::limited(|limits| {
            limits.max_tokens = 1_000_000;
            limits.shutdown_time = Duration::from_secs(if num_signals == 1 { 1 } else { 1000 });
        });
        let long = json!({"prompt": "a", "max_tokens": 1_000_000});
        let mut streamed = long.clone();
        streamed["stream"] = true.into();
        let (whole, streamed) = (server.send(&long), server.send(&streamed));
        server.wait_for("running", 2);
        let reader = std::thread::spawn(move || Answer::read(streamed));
        let start = Instant::now();
        for _ in 0..num_signals {
            server.signal();
        }
        server.join();
        assert!(start.elapsed() < Duration::from_secs(20));
        let answer = Answer::read(whole);
        assert_eq!((answer.status, answer.json()["error"]["code"].take()), (503, json!("shutting_down")));
        let (events, is_done) = reader.join().unwrap().events();
        assert!(!is_done);
        assert_eq!(events.last().unwrap()["error"]["code"], "shutting_down");
    }
}
