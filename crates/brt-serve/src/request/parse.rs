//! From JSON to a request.

use brt_lm::SampleConfig;
use serde_json::Value;

use super::{CompletionRequest, Prompt, fields::Fields};
use crate::RequestError;

/// All fields that a request may have.
const FIELDS: [&str; 22] = [
    "model",
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stream",
    "stream_options",
    "logprobs",
    "echo",
    "stop",
    "seed",
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
];

/// What a prompt may be.
const PROMPTS: &str = "a string, a list of strings, a list of tokens or a list of lists of tokens";

pub(super) fn parse(body: &[u8]) -> Result<CompletionRequest, RequestError> {
    let mut fields = Fields::parse(body, &FIELDS)?;
    let session = fields.string("session")?;
    let prompt = fields.read("prompt", PROMPTS, prompt)?;
    let prompt = match (prompt, &session) {
        (Some(prompt), _) => prompt,
        (None, Some(_)) => "".into(),
        (None, None) => return Err(RequestError::value("prompt", PROMPTS, "none")),
    };
    let defaults = CompletionRequest::new(prompt);
    let request = CompletionRequest {
        model: fields.string("model")?,
        max_tokens: fields.count("max_tokens")?.unwrap_or(defaults.max_tokens),
        sample: sample(&mut fields)?,
        n: fields.count("n")?.unwrap_or(1),
        stop: fields.read("stop", "a string or a list of strings", strings)?.unwrap_or_default(),
        seed: fields.read("seed", "an integer of 64 bits", seed)?,
        logprobs: fields.count("logprobs")?,
        echo: fields.boolean("echo")?.unwrap_or(false),
        stream: fields.boolean("stream")?.unwrap_or(false),
        include_usage: include_usage(&mut fields)?,
        session,
        ..defaults
    };
    refuse_unsupported(&mut fields, request.n)?;
    Ok(request)
}

fn sample(fields: &mut Fields) -> Result<SampleConfig, RequestError> {
    let defaults = SampleConfig::default();
    Ok(SampleConfig {
        repetition_penalty: fields.number("repetition_penalty")?.unwrap_or(defaults.repetition_penalty),
        temperature: fields.number("temperature")?.unwrap_or(defaults.temperature),
        top_k: fields.read("top_k", "an integer of at least 1", Value::as_i64)?,
        top_p: fields.number("top_p")?,
        min_p: fields.number("min_p")?,
    })
}

fn include_usage(fields: &mut Fields) -> Result<bool, RequestError> {
    let known = ["include_usage", "include_obfuscation"];
    let mut options = fields.object("stream_options", "stream_options.", &known)?;
    options.boolean("include_obfuscation")?;
    Ok(options.boolean("include_usage")?.unwrap_or(false))
}

/// Takes what the protocol knows and this server does not, where it asks for nothing.
fn refuse_unsupported(fields: &mut Fields, n: usize) -> Result<(), RequestError> {
    for name in ["presence_penalty", "frequency_penalty"] {
        let expected = "0 (use repetition_penalty)";
        fields.read(name, expected, |v| v.as_f64().filter(|&x| x == 0.))?;
    }
    let is_empty = |v: &Value| v.as_object().filter(|map| map.is_empty()).map(|_| ());
    fields.read("logit_bias", "none, or an empty object", is_empty)?;
    let expected = format!("none, or {n} as n is");
    fields.read("best_of", &expected, |v| v.as_u64().filter(|&best| best == n as u64))?;
    fields.read("suffix", "none, or an empty string", |v| v.as_str().filter(|s| s.is_empty()).map(|_| ()))?;
    fields.string("user")?;
    Ok(())
}

fn prompt(value: &Value) -> Option<Prompt> {
    match value {
        Value::String(text) => Some(Prompt::Texts(vec![text.clone()])),
        Value::Array(list) if list.first().is_some_and(Value::is_string) => strings(value).map(Prompt::Texts),
        Value::Array(list) if list.first().is_some_and(Value::is_number) => {
            tokens(value).map(|text| Prompt::Tokens(vec![text]))
        }
        Value::Array(list) => list.iter().map(tokens).collect::<Option<_>>().map(Prompt::Tokens),
        _ => None,
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        other => other.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
    }
}

fn tokens(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|token| token.as_u64()?.try_into().ok()).collect()
}

/// Returns a seed; a negative one stands for another number.
fn seed(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned))
}
