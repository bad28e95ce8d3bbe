//! Too much, too slow, too many.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::common::{Answer, Server};

#[test]
fn a_body_has_a_length() {
    let server = Server::limited(|limits| limits.max_body_bytes = 1000);
    let body = |len: usize| format!("{{\"prompt\": \"{}\"}}", "a".repeat(len - 14));
    assert_eq!(server.request("POST /v1/completions", "", &body(1000)).status, 200);
    for len in [1001, 5_000_000] {
        let answer = server.request("POST /v1/completions", "", &body(len));
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (413, "body: expected at most 1000 bytes, got more")
        );
    }
    // A limit may be larger than what is read of a body that is refused: here the prompt is what is too long.
    let large = Server::limited(|limits| limits.max_body_bytes = 200_000_000);
    let answer = large.request("POST /v1/completions", "", &body(70_000_000));
    assert_eq!(answer.status, 400, "{}", answer.message());
    // Also one that does not say how long it is.
    let mut stream = server.connect();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..200 {
        stream.write_all(format!("64\r\n{}\r\n", "a".repeat(100)).as_bytes()).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(Answer::read(stream).status, 413);
    // One that announces more than anybody would send is not waited for.
    let mut stream = server.connect();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
                content-length: 1000000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(Answer::read(stream).status, 413);
}

#[test]
fn prompts_have_a_length() {
    let server = Server::limited(|limits| limits.max_prompt_tokens = 10);
    assert_eq!(server.post(&json!({"prompt": "0123456789"})).status, 200);
    for prompt in [json!("0123456789a"), json!(["01234", "567890"]), json!(vec![5; 11])] {
        let answer = server.post(&json!({"prompt": prompt}));
        let expected = "prompt: expected at most 10 tokens in all (--max-prompt-tokens), got 11";
        assert_eq!((answer.status, answer.message().as_str()), (400, expected));
    }
}

#[test]
fn answers_have_a_size() {
    let server = Server::limited(|limits| limits.max_answer_scores = 100);
    let ask = |fields: serde_json::Value| {
        let mut body = json!({"prompt": ["0123456789", "0123456789"], "max_tokens": 0, "temperature": 0});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let answer = server.post(&body);
        let got = if answer.status == 200 { String::new() } else { answer.message() };
        (answer.status, got.rsplit(' ').next().unwrap_or_default().to_owned())
    };
    let refused = |got: &str| (400, got.to_owned());
    assert_eq!(ask(json!({"echo": true, "n": 5})).0, 200);
    assert_eq!(ask(json!({"echo": true, "n": 6})), refused("120"));
    assert_eq!(ask(json!({"echo": true, "logprobs": 4})).0, 200);
    assert_eq!(ask(json!({"echo": true, "logprobs": 5})), refused("120"));
    assert_eq!(ask(json!({"max_tokens": 50, "logprobs": 0})).0, 200);
    assert_eq!(ask(json!({"max_tokens": 50, "logprobs": 1})), refused("200"));
    assert_eq!(ask(json!({"max_tokens": 50, "logprobs": 1, "stream": true})).0, 200);
    assert_eq!(ask(json!({"max_tokens": 200})).0, 200);
    let answer = server.post(&json!({"prompt": "0123456789", "echo": true, "logprobs": 20}));
    assert_eq!(
        answer.message(),
        "logprobs: expected tokens of the answer times n and 1 + logprobs up to 100 (--max-answer-scores), got 546"
    );
}

/// Reads until the server closes and returns what came and how long that took.
fn until_closed(mut stream: TcpStream) -> (String, Duration) {
    let start = Instant::now();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text, start.elapsed())
}

#[test]
fn a_slow_head_is_not_waited_for() {
    let server = Server::limited(|limits| limits.head_time = Duration::from_millis(500));
    // One that sends nothing, one that sends a part, and one that has had an answer.
    for sent in
        ["", "POST /v1/completions HTTP/1.1\r\nhost: te", "GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n"]
    {
        let mut stream = server.connect();
        stream.write_all(sent.as_bytes()).unwrap();
        let (_, time) = until_closed(stream);
        assert!(time >= Duration::from_millis(400) && time < Duration::from_secs(10), "{sent}: {time:?}");
    }
    // One that sends a byte now and then.
    let mut stream = server.connect();
    let start = Instant::now();
    while stream.write_all(b"x").is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_slow_body_is_not_waited_for() {
    let server = Server::limited(|limits| limits.body_time = Duration::from_secs(1));
    let mut stream = server.connect();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{\"prompt\"";
    stream.write_all(head.as_bytes()).unwrap();
    let start = Instant::now();
    let answer = Answer::read(stream);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(answer.status, 408);
    assert_eq!(answer.message(), "body: expected all of it within 1 seconds, got only a part");
    // One that breaks off harms nobody.
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    drop(stream);
    assert!(!server.text("next", 4).is_empty());
}

#[test]
fn so_many_requests_wait() {
    let server = Server::limited(|limits| {
        limits.max_tokens = 1_000_000;
        (limits.max_running, limits.max_waiting) = (1, 2);
    });
    let long = json!({"prompt": "a", "max_tokens": 1_000_000});
    let running = server.send(&long);
    server.wait_for("running", 1);
    let waiting = server.send(&long);
    server.wait_for("waiting", 1);
    let next = server.send(&json!({"prompt": "a", "max_tokens": 3}));
    server.wait_for("waiting", 2);
    let answer = server.post(&long);
    assert_eq!(answer.status, 429);
    assert_eq!(answer.message(), "requests: expected at most 2 to wait, got one more; try again later");
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    assert!(answer.head.contains("retry-after: 1"));
    drop((running, waiting));
    assert_eq!(Answer::read(next).status, 200);
}

#[test]
fn so_many_connections_are_open() {
    let server = Server::limited(|limits| limits.max_connections = 2);
    let open = [server.connect(), server.connect()];
    let refused = Answer::read(server.connect());
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (503, "connections: expected at most 2 at once, got one more; try again later")
    );
    drop(open);
    let start = Instant::now();
    while server.request("GET /healthz", "", "").status == 503 {
        assert!(start.elapsed() < Duration::from_secs(20), "no place is free");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!server.text("next", 4).is_empty());
}

#[test]
fn a_head_has_a_length() {
    let server = Server::start();
    let answer = server.request("GET /healthz", &format!("x-long: {}\r\n", "a".repeat(400_000)), "");
    assert_eq!(answer.status, 431);
}
