//! `logprobs` and `echo`.

use brt_data::Tokenizer;
use brt_lm::{Decoder, log_probabilities};
use serde_json::{Value, json};

use crate::common::{Server, model, stop_in, tokens};

/// Two ways to the same number differ by rounding alone; those of a batch add in another order.
const TOLERANCE: f64 = 1e-4;

/// Returns the log-probabilities of all tokens at each place of a text, from the second token on.
fn expected(tokens: &[i64]) -> Vec<Vec<f32>> {
    let model = model(0);
    let decoder = Decoder::new(&model);
    let logits = decoder.feed_all(&mut decoder.start(), tokens);
    let row = |idx: usize| log_probabilities(&Vec::<f32>::try_from(logits.get(idx as i64)).unwrap());
    (0..tokens.len() - 1).map(row).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

/// Checks the scores of the whole of a text: of the prompt, which is echoed, and of what was drawn.
fn check(prompt: &str, max_tokens: usize, num_top: usize) {
    let server = Server::start();
    let answer = server.ask(json!({
        "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "echo": true, "logprobs": num_top
    }));
    let choice = &answer["choices"][0];
    let text = choice["text"].as_str().unwrap();
    assert!(text.starts_with(prompt));
    let list = |name: &str| choice["logprobs"][name].as_array().unwrap().clone();
    let [names, scores, tops, offsets] =
        ["tokens", "token_logprobs", "top_logprobs", "text_offset"].map(list);

    let prompt_tokens = tokens(prompt);
    let len = prompt_tokens.len() + max_tokens;
    assert_eq!([names.len(), scores.len(), tops.len(), offsets.len()], [len; 4]);
    assert!(scores[0].is_null() && tops[0].is_null());
    assert!(offsets.is_sorted_by_key(|offset| offset.as_u64().unwrap()));
    assert!(offsets.iter().all(|offset| offset.as_u64().unwrap() <= text.chars().count() as u64));

    // Drawn greedily: each is the likeliest of its place.
    let mut all = prompt_tokens;
    while all.len() < len {
        let rows = expected(&[&all[..], &[0]].concat());
        let row = rows.last().unwrap();
        all.push((0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap() as i64);
    }
    for (place, row) in expected(&all).iter().enumerate() {
        let (token, score) = (all[place + 1], number(&scores[place + 1]));
        assert!((score - f64::from(row[token as usize])).abs() < TOLERANCE, "{place}: {score}");
        let top = tops[place + 1].as_object().unwrap();
        assert!((num_top.max(1)..=num_top + 1).contains(&top.len()), "{top:?}");
        let mut sorted = row.clone();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        for (value, expected) in top.values().zip(&sorted[..num_top]) {
            assert!((number(value) - f64::from(*expected)).abs() < TOLERANCE);
        }
        assert_eq!(top[names[place + 1].as_str().unwrap()], scores[place + 1], "one number, printed twice");
    }
}

#[test]
fn scores_are_those_of_the_model() {
    check("an echo", 0, 5);
    check("an echo", 4, 20);
    check("x", 1, 0);
    check("über", 3, 2);
    check(&"more than one piece of a prompt. ".repeat(40), 1, 1);
}

#[test]
fn scores_without_echo_are_of_what_is_drawn() {
    let server = Server::start();
    let ask = |fields: Value| {
        let mut body = json!({"prompt": "é then", "max_tokens": 6, "seed": 2, "logprobs": 2});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        server.ask(body)["choices"][0].take()
    };
    let (both, drawn) = (ask(json!({"echo": true})), ask(json!({})));
    let list = |choice: &Value, name: &str| choice["logprobs"][name].as_array().unwrap().clone();
    assert_eq!(list(&drawn, "tokens"), list(&both, "tokens")[7..]);
    for (one, other) in list(&drawn, "token_logprobs").iter().zip(&list(&both, "token_logprobs")[7..]) {
        assert!((number(one) - number(other)).abs() < TOLERANCE);
    }
    assert_eq!(list(&drawn, "top_logprobs").len(), 6);
    let offsets = |choice: &Value| -> Vec<u64> {
        choice["logprobs"]["text_offset"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect()
    };
    assert_eq!(offsets(&both)[..7], [0, 0, 1, 2, 3, 4, 5]);
    let moved: Vec<u64> = offsets(&both)[7..].iter().map(|offset| offset - 6).collect();
    assert_eq!(offsets(&drawn), moved);
    let without = server.ask(json!({"prompt": "é then", "max_tokens": 6, "seed": 2}));
    assert_eq!(without["choices"][0]["text"], drawn["text"]);
}

#[test]
fn tokens_of_one_place_have_names_of_their_own() {
    let server = Server::start();
    let body = json!({"prompt": "é", "max_tokens": 1, "echo": true, "logprobs": 20, "temperature": 0});
    let lists = server.ask(body)["choices"][0]["logprobs"].take();
    assert_eq!(lists["tokens"][0], r"bytes:\xc3");
    assert_eq!(lists["tokens"][1], r"bytes:\xa9");
    assert_eq!(lists["top_logprobs"][2].as_object().unwrap().len(), 20);
    assert_eq!(Tokenizer::t5_bytes().token_text(0xC3 + 3), [0xC3]);
}

#[test]
fn what_belongs_to_a_stop_string_has_no_score() {
    let server = Server::start();
    let whole = server.text("scored", 40);
    let (stop, cut) = stop_in(&whole);
    for stream in [false, true] {
        let body = json!({
            "prompt": "scored", "max_tokens": 40, "temperature": 0, "stop": stop, "logprobs": 1, "stream": stream
        });
        let answer = server.post(&body);
        let pieces = if stream { answer.events().0 } else { vec![answer.json()] };
        let choices: Vec<&Value> = pieces.iter().map(|piece| &piece["choices"][0]).collect();
        let text: String = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(text, whole[..cut]);
        let offsets =
            choices.iter().filter_map(|choice| choice["logprobs"]["text_offset"].as_array()).flatten();
        let last = offsets.map(|offset| offset.as_u64().unwrap()).max().unwrap();
        assert!(last < text.chars().count() as u64, "{last} {text:?}");
    }
}
