//! What a client gets wrong is one sentence that names it.

use serde_json::json;

use crate::common::{Options, Server};

/// Every error of a body: the body, the field, the message.
const MISTAKES: &[(&str, &str, &str)] = &[
    (r#"{"prompt": "#, "", "body: expected a JSON object, got EOF while parsing a value at line 1 column 11"),
    ("[1]", "", "body: expected a JSON object, got [1]"),
    (
        r#"{"prompt": "a", "seed": 1, "seed": 2}"#,
        "",
        "body: expected a JSON object, got `seed` twice at line 1 column 37",
    ),
    ("", "", "body: expected a JSON object, got EOF while parsing a value at line 1 column 0"),
    (
        r#"{"prompt": "a", "temprature": 1}"#,
        "temprature",
        "temprature: expected a known field, got an unknown one; did you mean `temperature`?",
    ),
    (r#"{"messages": []}"#, "messages", "messages: expected a known field, got an unknown one"),
    (
        r#"{"prompt": "a", "stream_options": {"include_usag": true}}"#,
        "stream_options.include_usag",
        "stream_options.include_usag: expected a known field, got an unknown one; did you mean `include_usage`?",
    ),
    (
        r#"{}"#,
        "prompt",
        "prompt: expected a string, a list of strings, a list of tokens or a list of lists of tokens, got none",
    ),
    (
        r#"{"prompt": ["a", 1]}"#,
        "prompt",
        "prompt: expected a string, a list of strings, a list of tokens or a list of lists of tokens, got [\"a\",1]",
    ),
    (
        r#"{"prompt": [[null]]}"#,
        "prompt",
        "prompt: expected a string, a list of strings, a list of tokens or a list of lists of tokens, got [[null]]",
    ),
    (r#"{"prompt": ""}"#, "prompt", "prompt: expected at least one token, got none"),
    (r#"{"prompt": ["a", ""]}"#, "prompt", "prompt: expected at least one token, got none"),
    (r#"{"prompt": []}"#, "prompt", "prompt: expected at least one text, got an empty list"),
    (r#"{"prompt": [[]]}"#, "prompt", "prompt: expected at least one token, got none"),
    (r#"{"prompt": [259, 260]}"#, "prompt", "prompt: expected tokens from 0 to 259, got 260"),
    (
        r#"{"prompt": [-1]}"#,
        "prompt",
        "prompt: expected a string, a list of strings, a list of tokens or a list of lists of tokens, got [-1]",
    ),
    (
        r#"{"prompt": "a", "max_tokens": 4097}"#,
        "max_tokens",
        "max_tokens: expected an integer from 0 to 4096, got 4097",
    ),
    (
        r#"{"prompt": "a", "max_tokens": -1}"#,
        "max_tokens",
        "max_tokens: expected an integer of at least 0, got -1",
    ),
    (
        r#"{"prompt": "a", "max_tokens": "ten"}"#,
        "max_tokens",
        "max_tokens: expected an integer of at least 0, got \"ten\"",
    ),
    (
        r#"{"prompt": "a", "max_tokens": 0}"#,
        "max_tokens",
        "max_tokens: expected at least 1 without echo or a session, got 0",
    ),
    (
        r#"{"prompt": "a", "temperature": -1}"#,
        "temperature",
        "temperature: expected a number of at least 0, got -1",
    ),
    (
        r#"{"prompt": "a", "temperature": "hot"}"#,
        "temperature",
        "temperature: expected a number, got \"hot\"",
    ),
    (r#"{"prompt": "a", "top_p": 0}"#, "top_p", "top_p: expected a number above 0 and up to 1, got 0"),
    (r#"{"prompt": "a", "top_k": 0}"#, "top_k", "top_k: expected at least 1, got 0"),
    (r#"{"prompt": "a", "top_k": 1.5}"#, "top_k", "top_k: expected an integer of at least 1, got 1.5"),
    (r#"{"prompt": "a", "min_p": 2}"#, "min_p", "min_p: expected a number from 0 to 1, got 2"),
    (
        r#"{"prompt": "a", "repetition_penalty": 0}"#,
        "repetition_penalty",
        "repetition_penalty: expected a number above 0, got 0",
    ),
    (r#"{"prompt": "a", "n": 0}"#, "n", "n: expected an integer from 1 to 16, got 0"),
    (r#"{"prompt": "a", "n": 17}"#, "n", "n: expected an integer from 1 to 16, got 17"),
    (r#"{"prompt": "a", "logprobs": 21}"#, "logprobs", "logprobs: expected an integer from 0 to 20, got 21"),
    (
        r#"{"prompt": "a", "logprobs": true}"#,
        "logprobs",
        "logprobs: expected an integer of at least 0, got true",
    ),
    (r#"{"prompt": "a", "echo": 1}"#, "echo", "echo: expected true or false, got 1"),
    (r#"{"prompt": "a", "stream": "yes"}"#, "stream", "stream: expected true or false, got \"yes\""),
    (
        r#"{"prompt": "a", "stream_options": 1}"#,
        "stream_options",
        "stream_options: expected an object, got 1",
    ),
    (r#"{"prompt": "a", "stop": 1}"#, "stop", "stop: expected a string or a list of strings, got 1"),
    (
        r#"{"prompt": "a", "stop": ["b", ""]}"#,
        "stop",
        "stop: expected up to 16 strings of 1 to 1024 bytes, got one of 0 bytes",
    ),
    (r#"{"prompt": "a", "seed": 0.5}"#, "seed", "seed: expected an integer of 64 bits, got 0.5"),
    (
        r#"{"prompt": "a", "presence_penalty": 1}"#,
        "presence_penalty",
        "presence_penalty: expected 0 (use repetition_penalty), got 1",
    ),
    (
        r#"{"prompt": "a", "frequency_penalty": 0.1}"#,
        "frequency_penalty",
        "frequency_penalty: expected 0 (use repetition_penalty), got 0.1",
    ),
    (
        r#"{"prompt": "a", "logit_bias": {"5": 1}}"#,
        "logit_bias",
        "logit_bias: expected none, or an empty object, got {\"5\":1}",
    ),
    (r#"{"prompt": "a", "best_of": 2}"#, "best_of", "best_of: expected none, or 1 as n is, got 2"),
    (r#"{"prompt": "a", "suffix": "b"}"#, "suffix", "suffix: expected none, or an empty string, got \"b\""),
    (r#"{"prompt": "a", "user": 5}"#, "user", "user: expected a string, got 5"),
    (
        r#"{"prompt": "a", "session": ""}"#,
        "session",
        "session: expected a name of 1 to 128 characters, got 0 characters",
    ),
    (
        r#"{"prompt": "", "session": "new"}"#,
        "prompt",
        "prompt: expected at least one token in a new session, got none",
    ),
    (r#"{"session": "new"}"#, "prompt", "prompt: expected at least one token in a new session, got none"),
    (r#"{"prompt": "a", "session": "s", "n": 2}"#, "n", "n: expected 1 in a session, got 2"),
    (
        r#"{"prompt": ["a", "b"], "session": "s"}"#,
        "prompt",
        "prompt: expected one text in a session, got 2 texts",
    ),
];

#[test]
fn mistakes_are_answered() {
    let server = Server::start();
    for &(body, param, expected) in MISTAKES {
        // A request to stream is refused in the same way.
        let asks = !body.contains("\"stream\"");
        let streamed = if asks {
            body.replacen("{\"prompt\"", "{\"stream\": true, \"prompt\"", 1)
        } else {
            body.to_owned()
        };
        for body in [body, &streamed] {
            let answer = server.request("POST /v1/completions", "", body);
            assert_eq!(answer.status, 400, "{body}");
            if !expected.contains(" at line ") || body != streamed {
                assert_eq!(answer.message(), expected, "{body}");
            }
            let error = answer.json()["error"].take();
            assert_eq!(error["type"], "invalid_request_error");
            assert_eq!(error["param"].as_str().unwrap_or_default(), param, "{body}");
        }
    }
    assert_eq!(server.health(), json!({"status": "ok", "running": 0, "waiting": 0, "sessions": 0}));
}

#[test]
fn too_many_choices() {
    let server = Server::start();
    let answer = server.post(&json!({"prompt": vec!["a"; 65], "n": 2}));
    assert_eq!(answer.message(), "prompt: expected prompts times n up to 128, got 65 times 2");
    let answer = server.post(&json!({"prompt": "a", "stop": vec!["a"; 17]}));
    assert_eq!(answer.message(), "stop: expected up to 16 strings of 1 to 1024 bytes, got 17 strings");
    let answer = server.post(&json!({"prompt": "a", "session": "x".repeat(129)}));
    assert_eq!(answer.message(), "session: expected a name of 1 to 128 characters, got 129 characters");
    let deep = "[".repeat(100_000);
    assert_eq!(server.request("POST /v1/completions", "", &deep).status, 400);
}

#[test]
fn wrong_places() {
    let server = Server::start();
    let cases = [
        (
            "POST /v1/chat/completions",
            404,
            "not_found",
            "path: expected /v1/completions, /v1/models or /healthz, got /v1/chat/completions",
        ),
        ("GET /", 404, "not_found", "path: expected /v1/completions, /v1/models or /healthz, got /"),
        ("GET /v1/models/other", 404, "model_not_found", "model: expected `tiny`, got `other`"),
        ("GET /v1/models/%ff", 404, "model_not_found", "model: expected `tiny`, got `Invalid UTF-8 in `id``"),
        ("GET /v1/completions", 405, "method_not_allowed", "method: expected POST for this path, got GET"),
        ("POST /v1/models", 405, "method_not_allowed", "method: expected GET for this path, got POST"),
        ("DELETE /healthz", 405, "method_not_allowed", "method: expected GET for this path, got DELETE"),
    ];
    for (line, status, code, message) in cases {
        let answer = server.request(line, "", "{}");
        assert_eq!((answer.status, answer.message().as_str()), (status, message), "{line}");
        assert_eq!(answer.json()["error"]["code"], code);
    }
    let answer = server.post(&json!({"model": "gpt-4", "prompt": "a"}));
    assert_eq!((answer.status, answer.message().as_str()), (404, "model: expected `tiny`, got `gpt-4`"));
    assert_eq!(answer.json()["error"]["code"], "model_not_found");
}

#[test]
fn a_body_must_say_that_it_is_json() {
    let server = Server::start();
    let body = r#"{"prompt": "a"}"#;
    let ask = |content_type: &str| {
        let mut stream = server.connect();
        let length = body.len();
        let request = format!(
            "POST /v1/completions HTTP/1.1\r\nhost: test\r\n{content_type}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        crate::common::Answer::read(stream)
    };
    assert_eq!(ask("content-type: application/json; charset=utf-8\r\n").status, 200);
    assert_eq!(ask("Content-Type: Application/JSON\r\n").status, 200);
    for (header, got) in [("", "none"), ("content-type: text/plain\r\n", "text/plain")] {
        let answer = ask(header);
        let expected = format!("content-type: expected application/json, got {got}");
        assert_eq!((answer.status, answer.message()), (415, expected));
    }
}

#[test]
fn a_key_is_asked_for() {
    let server = Server::with(Options { key: Some("secret"), ..Options::default() });
    let ask = |line: &str, headers: &str| server.request(line, headers, r#"{"prompt": "a"}"#);
    let completions = "POST /v1/completions";
    assert_eq!(ask(completions, "authorization: Bearer secret\r\n").status, 200);
    assert_eq!(ask(completions, "Authorization: bearer secret\r\n").status, 200);
    assert_eq!(ask("GET /healthz", "").status, 200);
    let cases = [
        ("", "none"),
        ("authorization: Bearer secre\r\n", "another key"),
        ("authorization: Bearer secrets\r\n", "another key"),
        ("authorization: Bearer \r\n", "no key"),
        ("authorization: BEARER\r\n", "no key"),
        ("authorization: Bearersecret\r\n", "another scheme"),
        ("authorization: Basic secret\r\n", "another scheme"),
    ];
    for (header, got) in cases {
        for line in [completions, "GET /v1/models", "GET /nowhere"] {
            let answer = ask(line, header);
            let expected = format!("authorization: expected `Bearer` and the key of this server, got {got}");
            assert_eq!((answer.status, answer.message()), (401, expected), "{line}");
            assert!(answer.head.contains("www-authenticate: bearer"));
        }
    }
    // A server without a key does not care.
    assert_eq!(
        Server::start().request(completions, "authorization: Bearer \r\n", r#"{"prompt": "a"}"#).status,
        200
    );
}
