//! What is drawn, and how it is told.

use brt_data::Tokenizer;
use brt_lm::{Decoder, SampleConfig, Sampler};
use serde_json::{Value, json};

use crate::common::{Server, model, stop_in, text, tokens};

/// Returns what the decoder alone makes of a prompt.
fn expected(prompt: &str, num_tokens: usize, config: SampleConfig, seed: u64) -> String {
    let model = model(0);
    let decoder = Decoder::new(&model);
    let (mut state, mut sampler, mut drawn) = (decoder.start(), Sampler::new(config, seed), vec![]);
    let mut logits = decoder.feed(&mut state, &tokens(prompt));
    for _ in 0..num_tokens {
        let token = sampler.draw(&Vec::<f32>::try_from(&logits).unwrap(), &state.recent());
        drawn.push(token as u32);
        logits = decoder.step(&mut [&mut state], &[token]).squeeze_dim(0);
    }
    String::from_utf8_lossy(&Tokenizer::t5_bytes().decode(&drawn)).into_owned()
}

#[test]
fn texts_are_those_of_the_decoder() {
    let server = Server::start();
    let greedy = SampleConfig { temperature: 0., ..SampleConfig::default() };
    assert_eq!(server.text("fn main() {", 40), expected("fn main() {", 40, greedy, 0));
    let cases = [
        (json!({}), SampleConfig::default()),
        (
            json!({"temperature": 0.7, "top_k": 9}),
            SampleConfig { temperature: 0.7, top_k: Some(9), ..greedy },
        ),
        (
            json!({"temperature": 1.5, "top_p": 0.5, "min_p": 0.01}),
            SampleConfig { temperature: 1.5, top_p: Some(0.5), min_p: Some(0.01), ..greedy },
        ),
        (
            json!({"temperature": 0, "repetition_penalty": 1.5}),
            SampleConfig { repetition_penalty: 1.5, ..greedy },
        ),
    ];
    for (fields, config) in cases {
        let mut body = json!({"prompt": "once upon", "max_tokens": 30, "seed": 7});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(text(&server.ask(body.clone())), expected("once upon", 30, config, 7), "{body}");
    }
}

#[test]
fn an_answer_has_what_the_protocol_says() {
    let server = Server::start();
    let body = json!({"model": "tiny", "prompt": "twelve bytes", "max_tokens": 5, "user": "me"});
    let (one, two) = (server.ask(body.clone()), server.ask(body));
    assert_eq!(one["object"], "text_completion");
    assert_eq!(one["model"], "tiny");
    assert!(one["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_ne!(one["id"], two["id"]);
    assert!(one["created"].as_u64().unwrap() > 1_600_000_000);
    assert_eq!(one["system_fingerprint"], format!("fp_{}", &model(0).hash()[..12]));
    assert_eq!(one["usage"], json!({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}));
    let choice = &one["choices"][0];
    assert_eq!(
        (&choice["index"], &choice["finish_reason"], &choice["logprobs"]),
        (&json!(0), &json!("length"), &Value::Null)
    );
    assert!(one.get("session_tokens").is_none());

    assert_eq!(server.ask(json!({"prompt": "a"}))["usage"]["completion_tokens"], 16);
    let list = server.request("GET /v1/models", "", "").json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("tiny")));
    assert_eq!(server.request("GET /v1/models/tiny", "", "").json(), list["data"][0]);
    assert_eq!(server.health(), json!({"status": "ok", "running": 0, "waiting": 0, "sessions": 0}));
}

#[test]
fn null_is_no_field_and_seeds_repeat() {
    let server = Server::start();
    let plain = json!({"prompt": "seeds", "seed": 3});
    let mut nulls = plain.clone();
    for field in [
        "model",
        "max_tokens",
        "temperature",
        "top_p",
        "n",
        "stream",
        "stream_options",
        "logprobs",
        "echo",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "best_of",
        "suffix",
        "user",
        "top_k",
        "min_p",
        "repetition_penalty",
        "session",
    ] {
        nulls[field] = Value::Null;
    }
    let plain = server.ask(plain);
    assert_eq!(plain["choices"], server.ask(nulls)["choices"]);
    let neutral = json!({"prompt": "seeds", "seed": 3, "stop": [], "best_of": 1, "suffix": "", "logit_bias": {},
        "presence_penalty": 0, "frequency_penalty": 0.0});
    assert_eq!(plain["choices"], server.ask(neutral)["choices"]);
    let seeded = |seed: Value| server.ask(json!({"prompt": "seeds", "seed": seed}))["choices"].take();
    assert_ne!(seeded(json!(4)), plain["choices"]);
    assert_eq!(seeded(json!(-1)), seeded(json!(u64::MAX)));
    assert_ne!(seeded(Value::Null), seeded(Value::Null));
}

#[test]
fn prompts_may_be_texts_or_tokens_one_or_many() {
    let server = Server::start();
    let ask = |prompt: Value| {
        let answer = server.ask(json!({"prompt": prompt, "temperature": 0, "echo": true}));
        let choices = answer["choices"].as_array().unwrap().clone();
        let indices: Vec<u64> = choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
        assert_eq!(indices, (0..choices.len() as u64).collect::<Vec<_>>());
        choices.iter().map(|choice| choice["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (one, two) = (ask(json!("one")), ask(json!("second é")));
    assert!(two[0].starts_with("second é") && two[0].len() > 9);
    assert_eq!(ask(json!(["one"])), one);
    assert_eq!(ask(json!(tokens("one"))), one);
    assert_eq!(ask(json!([tokens("one")])), one);
    let both = [one, two].concat();
    assert_eq!(ask(json!(["one", "second é"])), both);
    assert_eq!(ask(json!([tokens("one"), tokens("second é")])), both);
}

#[test]
fn choices_of_one_prompt_differ_and_the_first_is_that_of_n_1() {
    let server = Server::start();
    let ask = |n: usize| {
        let answer = server.ask(json!({"prompt": ["a", "b"], "n": n, "seed": 5, "max_tokens": 12}));
        assert_eq!(
            answer["usage"],
            json!({"prompt_tokens": 2, "completion_tokens": 24 * n, "total_tokens": 24 * n + 2})
        );
        let choices = answer["choices"].as_array().unwrap();
        choices.iter().map(|choice| choice["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (one, three) = (ask(1), ask(3));
    assert_eq!([&three[0], &three[3]], [&one[0], &one[1]]);
    let mut different = three.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 6, "{three:?}");
}

#[test]
fn equal_prompts_of_a_request_have_texts_of_their_own_where_no_seed_is_sent() {
    let server = Server::start();
    let ask = |seed: Value| {
        let answer = server.ask(json!({"prompt": ["same", "same"], "n": 2, "max_tokens": 24, "seed": seed}));
        let texts = [0, 1, 2, 3].map(|idx| answer["choices"][idx]["text"].as_str().unwrap().to_owned());
        std::collections::HashSet::from(texts).len()
    };
    assert_eq!([ask(Value::Null), ask(json!(1))], [4, 2]);
}

#[test]
fn a_text_ends_before_a_stop_string() {
    let server = Server::start();
    let whole = server.text("stop", 60);
    let (stop, cut) = stop_in(&whole);
    for stop in [json!(stop), json!([stop]), json!(["never to be seen", stop])] {
        let answer = server.ask(json!({"prompt": "stop", "max_tokens": 60, "temperature": 0, "stop": stop}));
        assert_eq!(text(&answer), &whole[..cut]);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        let drawn = answer["usage"]["completion_tokens"].as_u64().unwrap();
        assert!(drawn < 60 && drawn > 0, "{answer}");
    }
    let answer =
        server.ask(json!({"prompt": "stop", "max_tokens": 60, "temperature": 0, "stop": "never seen"}));
    assert_eq!((text(&answer), &answer["choices"][0]["finish_reason"]), (whole.as_str(), &json!("length")));
}
