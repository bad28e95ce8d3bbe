//! The server over a real connection.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use brt_data::Tokenizer;
use brt_lm::{CellLayout, Gate, LanguageModel, LogitDivisor, ModelConfig, RecurrenceConfig};
use brt_serve::{Worker, router};
use serde_json::{Value, json};
use tch::Device;

/// Starts a server of a small recurrent model in the background.
fn start() -> SocketAddr {
    let config = ModelConfig {
        vocab_size: 260,
        model_dim: 16,
        num_layers: 2,
        num_heads: 2,
        head_dim: 8,
        ffn_dim: 32,
        window_len: 4,
        logit_divisor: LogitDivisor::SqrtModelDim,
        dropout: 0.,
        attention_dropout: 0.,
        recurrence: Some(RecurrenceConfig::new(vec![0], Gate::Fixed, CellLayout::Skip, 3)),
        ..ModelConfig::paper()
    };
    let model = LanguageModel::new(config, 1, Device::Cpu).unwrap();
    let (address, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, router(Worker::start(model, Tokenizer::t5_bytes()))).await.unwrap();
        });
    });
    ready.recv().unwrap()
}

/// Posts a body and returns status and answer.
fn post(server: SocketAddr, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(server).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn a_session_remembers_and_a_seed_repeats() {
    let server = start();
    let ask = |body: Value| {
        let (status, answer) = post(server, &body.to_string());
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let once = json!({"prompt": "fn main", "max_tokens": 12, "seed": 7});
    assert_eq!(ask(once.clone()), ask(once));

    let opening = json!({"prompt": "a text of some length", "max_tokens": 3, "session": "s"});
    assert_eq!(ask(opening)["num_tokens"], 24);
    let more = json!({"prompt": "more", "max_tokens": 12, "seed": 7, "session": "s"});
    let remembered = ask(more.clone());
    assert_eq!(remembered["num_tokens"], 40);
    let mut fresh = more;
    fresh["session"] = "t".into();
    let fresh = ask(fresh);
    assert_eq!(fresh["num_tokens"], 16);
    assert_ne!(fresh["text"], remembered["text"]);
}

#[test]
fn mistakes_are_answered() {
    let server = start();
    let cases = [
        (r#"{"prompt": ""}"#, 400, "prompt: expected at least one token, got none"),
        (r#"{"prompt": "a", "max_tokens": 0}"#, 400, "max_tokens: expected 1 .. 65536, got 0"),
        (
            r#"{"prompt": "a", "temperature": -1}"#,
            400,
            "sample.temperature: expected a number of at least 0, got -1",
        ),
        (r#"{"prompt": "a", "top_k": 0}"#, 400, "sample.top_k: expected at least 1, got 0"),
        (r#"{"prompt": "a", "max_token": 1}"#, 422, "unknown field `max_token`"),
        (r#"{"prompt": "#, 400, "EOF while parsing"),
    ];
    for (body, status, expected) in cases {
        let (got, answer) = post(server, body);
        let message = answer["error"].as_str().unwrap();
        assert_eq!(got, status, "{body}: {message}");
        assert!(message.contains(expected), "{body}: {message}");
    }
}
