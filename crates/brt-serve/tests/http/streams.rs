//! Answers piece by piece.

use std::{
    io::Read,
    thread::sleep,
    time::{Duration, Instant},
};

use brt_data::Tokenizer;
use brt_serve::{CompletionRequest, Limits, Worker, WorkerConfig};
use serde_json::{Value, json};

use crate::common::{Answer, Server, model};

/// Returns the choices of a stream, put together, each with its reasons to end.
fn together(events: &[Value], num_choices: usize) -> Vec<(String, Vec<Value>)> {
    let mut choices = vec![(String::new(), vec![]); num_choices];
    for piece in events.iter().flat_map(|event| event["choices"].as_array().unwrap()) {
        let choice = &mut choices[piece["index"].as_u64().unwrap() as usize];
        choice.0 += piece["text"].as_str().unwrap();
        choice.1.push(piece["finish_reason"].clone());
    }
    choices
}

#[test]
fn pieces_make_the_whole() {
    let server = Server::start();
    let cases = [
        json!({"prompt": "streamed", "temperature": 0, "max_tokens": 50}),
        json!({"prompt": ["streamed", "é"], "n": 2, "seed": 1, "max_tokens": 30, "echo": true}),
        json!({"prompt": "streamed", "seed": 1, "max_tokens": 30, "logprobs": 2, "echo": true}),
        json!({"prompt": "streamed", "seed": 1, "max_tokens": 0, "echo": true}),
        json!({"prompt": "streamed", "seed": 9, "max_tokens": 40, "stop": ["e", "a", "i", " "]}),
    ];
    for mut body in cases {
        let whole = server.ask(body.clone());
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
        let answer = server.post(&body);
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("content-type: text/event-stream"), "{}", answer.head);
        let (events, is_done) = answer.events();
        assert!(is_done);
        let (last, pieces) = events.split_last().unwrap();
        assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
        assert!(pieces.iter().all(|piece| piece.as_object().unwrap()["usage"].is_null()));
        assert!(
            events.iter().all(|event| event["id"] == events[0]["id"] && event["object"] == "text_completion")
        );

        let wholes = whole["choices"].as_array().unwrap();
        for ((text, reasons), whole) in together(pieces, wholes.len()).iter().zip(wholes) {
            assert_eq!(text, whole["text"].as_str().unwrap(), "{body}");
            let (last, others) = reasons.split_last().unwrap();
            assert_eq!(last, &whole["finish_reason"]);
            assert!(others.iter().all(Value::is_null));
        }
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let of_piece = |piece: &Value| piece["choices"][0]["logprobs"][list].as_array().cloned();
            let joined: Vec<Value> = pieces.iter().filter_map(of_piece).flatten().collect();
            let expected = whole["choices"][0]["logprobs"][list].as_array().cloned().unwrap_or_default();
            assert_eq!(joined, expected, "{list}");
        }
    }
}

#[test]
fn nobody_is_told_numbers_who_did_not_ask() {
    let server = Server::start();
    let (events, is_done) = server.post(&json!({"prompt": "a", "stream": true})).events();
    assert!(is_done && events.iter().all(|event| event.get("usage").is_none()));
}

/// A text of a million tokens, which would take minutes, ends when its client has gone.
#[test]
fn a_client_that_vanishes_frees_its_place() {
    let server = Server::limited(|limits| {
        limits.max_tokens = 1_000_000;
        limits.max_running = 1;
    });
    for stream in [true, false] {
        let mut connection = server.send(&json!({"prompt": "a", "max_tokens": 1_000_000, "stream": stream}));
        server.wait_for("running", 1);
        if stream {
            connection.read_exact(&mut [0; 2000]).unwrap();
        }
        drop(connection);
        server.wait_for("running", 0);
        assert!(!server.text("next", 4).is_empty());
    }
    // Also while it waits.
    let running = server.send(&json!({"prompt": "a", "max_tokens": 1_000_000}));
    server.wait_for("running", 1);
    let waiting = server.send(&json!({"prompt": "b", "max_tokens": 1_000_000}));
    server.wait_for("waiting", 1);
    drop(waiting);
    server.wait_for("waiting", 0);
    drop(running);
    server.wait_for("running", 0);
}

/// A client that reads nothing holds up nobody, and is given up after a time.
#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let server = Server::limited(|limits| {
        limits.max_tokens = 1_000_000;
        limits.stall_time = Duration::from_secs(4);
    });
    let body = json!({"prompt": "a", "max_tokens": 1_000_000, "stream": true, "logprobs": 20});
    let other = || {
        let start = Instant::now();
        assert!(!server.text("other", 8).is_empty());
        start.elapsed()
    };
    let alone = other();
    let slow = server.send(&body);
    server.wait_for("running", 1);
    let start = Instant::now();
    while server.health()["running"] == 1 {
        let beside = other();
        assert!(beside < 100 * alone + Duration::from_secs(2), "{beside:?}, alone {alone:?}");
        assert!(start.elapsed() < Duration::from_secs(60), "it was not given up");
        sleep(Duration::from_millis(20));
    }
    drop(slow);
}

#[test]
fn an_error_in_mid_stream_is_an_event() {
    let server = Server::limited(|limits| {
        limits.max_tokens = 1_000_000;
        limits.request_time = Duration::from_secs(1);
    });
    let answer = Answer::read(server.send(&json!({"prompt": "a", "max_tokens": 1_000_000, "stream": true})));
    assert_eq!(answer.status, 200);
    let (events, is_done) = answer.events();
    assert!(!is_done && events.len() > 1);
    let error = &events.last().unwrap()["error"];
    assert_eq!(error["code"], "request_timeout", "{error}");
    let answer = server.post(&json!({"prompt": "a", "max_tokens": 1_000_000}));
    assert_eq!(answer.status, 408);
    assert_eq!(
        answer.message(),
        "request: expected to be done within 1 seconds, got no end; ask for fewer tokens"
    );
    server.wait_for("running", 0);
}

/// A connection whose client reads nothing is closed: it would take the place of others.
#[test]
fn a_connection_that_is_not_read_is_closed() {
    let server = Server::limited(|limits| {
        limits.max_tokens = 1_000_000;
        limits.max_connections = 1;
        limits.stall_time = Duration::from_secs(1);
    });
    let body = json!({"prompt": "a", "max_tokens": 1_000_000, "stream": true, "logprobs": 20});
    let slow = server.send(&body);
    let start = Instant::now();
    sleep(Duration::from_millis(200));
    assert_eq!(server.request("GET /healthz", "", "").status, 503);
    while server.request("GET /healthz", "", "").status == 503 {
        assert!(start.elapsed() < Duration::from_secs(60), "it is still open");
        sleep(Duration::from_millis(50));
    }
    drop(slow);
}

/// So it is without a connection.
#[test]
fn a_stream_that_is_not_read_is_given_up() {
    let stall_time = Duration::from_secs(1);
    let limits = Limits { max_tokens: 1_000_000, stall_time, ..Limits::default() };
    let config = WorkerConfig { name: "tiny".into(), limits, sessions: None };
    let worker = Worker::start(model(0), Tokenizer::t5_bytes(), config).unwrap();
    let request = CompletionRequest { max_tokens: 1_000_000, ..CompletionRequest::new("a") };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut stream = worker.stream(request).await.unwrap();
        assert!(stream.next().await.unwrap().is_some());
        let start = Instant::now();
        while worker.load().running > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "it still runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(start.elapsed() >= stall_time);
        let error = loop {
            match stream.next().await {
                Ok(piece) => assert!(piece.is_some()),
                Err(error) => break error,
            }
        };
        assert_eq!(
            error.to_string(),
            "connection: expected a client that reads within 1 seconds, got a slower one"
        );
    });
}
