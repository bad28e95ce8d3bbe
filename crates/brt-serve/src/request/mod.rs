//! What clients ask for: the fields of the OpenAI completions protocol, and ours.

mod fields;
mod parse;
mod prepare;

use brt_lm::{ConfigError, SampleConfig};

pub(crate) use self::prepare::{GoesOn, PreparedPrompt, prepare};
use crate::{Limits, RequestError};

/// Most choices of one request: prompts times `n`.
pub(crate) const MAX_CHOICES: usize = 128;
/// Most choices of one prompt.
const MAX_N: usize = 16;
/// Most likeliest tokens that are named.
const MAX_LOGPROBS: usize = 20;
/// Most stop strings; evaluation harnesses send more than the four of the protocol.
const MAX_STOPS: usize = 16;
/// Longest stop string, in bytes: as much text may be held back.
const MAX_STOP_LEN: usize = 1024;
/// Longest name of a session, in characters.
const MAX_SESSION_NAME: usize = 128;

/// What to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Texts, each of which is continued.
    Texts(Vec<String>),
    /// Texts as tokens of the model's tokenizer.
    Tokens(Vec<Vec<u32>>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Texts(vec![text.to_owned()])
    }
}

impl Prompt {
    /// Returns the number of texts.
    pub fn num_texts(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Tokens(texts) => texts.len(),
        }
    }
}

/// Body of `POST /v1/completions`.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// The model; `None` for the one that is served.
    pub model: Option<String>,
    /// Texts to continue; in a session, what is new since its last request.
    pub prompt: Prompt,
    /// Most tokens to draw, for each choice.
    pub max_tokens: usize,
    /// How tokens are drawn.
    pub sample: SampleConfig,
    /// Number of choices for each text.
    pub n: usize,
    /// A text ends before the first of these.
    pub stop: Vec<String>,
    /// Seed of the draws; `None` for another one each time.
    pub seed: Option<u64>,
    /// Number of likeliest tokens to name, with log-probabilities; `None` for no scores.
    pub logprobs: Option<usize>,
    /// Whether the answer begins with the prompt.
    pub echo: bool,
    /// Whether the answer comes piece by piece.
    pub stream: bool,
    /// Whether the last piece tells the number of tokens.
    pub include_usage: bool,
    /// Name under which the state is kept for a later request.
    pub session: Option<String>,
}

impl CompletionRequest {
    /// Returns the request to continue a text as the protocol does where nothing else is asked for: 16 tokens at
    /// temperature 1.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        Self {
            model: None,
            prompt: prompt.into(),
            max_tokens: 16,
            sample: SampleConfig::default(),
            n: 1,
            stop: vec![],
            seed: None,
            logprobs: None,
            echo: false,
            stream: false,
            include_usage: false,
            session: None,
        }
    }

    /// Reads the body of a request. `null` is as good as no field.
    ///
    /// # Errors
    /// No JSON object, an unknown field, or a value of a wrong type.
    pub fn from_json(body: &[u8]) -> Result<Self, RequestError> {
        parse::parse(body)
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The first that does not fit.
    pub fn validate(&self, limits: &Limits) -> Result<(), RequestError> {
        let at_most = |param, got: usize, min: usize, max: usize| match (min..=max).contains(&got) {
            true => Ok(()),
            false => Err(RequestError::value(param, format!("an integer from {min} to {max}"), got)),
        };
        at_most("max_tokens", self.max_tokens, 0, limits.max_tokens)?;
        at_most("n", self.n, 1, MAX_N)?;
        at_most("logprobs", self.logprobs.unwrap_or(0), 0, MAX_LOGPROBS)?;
        self.sample.validate().map_err(|error| {
            let ConfigError { key, expected, got, .. } = error;
            RequestError::value(key, expected, got)
        })?;
        self.validate_stops()?;
        self.validate_prompts()?;
        self.validate_session()
    }

    fn validate_stops(&self) -> Result<(), RequestError> {
        let expected = format!("up to {MAX_STOPS} strings of 1 to {MAX_STOP_LEN} bytes");
        let wrong = self.stop.iter().find(|stop| !(1..=MAX_STOP_LEN).contains(&stop.len()));
        match (wrong, self.stop.len()) {
            (Some(stop), _) => {
                Err(RequestError::value("stop", expected, format!("one of {} bytes", stop.len())))
            }
            (None, len) if len > MAX_STOPS => {
                Err(RequestError::value("stop", expected, format!("{len} strings")))
            }
            _ => Ok(()),
        }
    }

    fn validate_prompts(&self) -> Result<(), RequestError> {
        let num_texts = self.prompt.num_texts();
        if num_texts == 0 {
            return Err(RequestError::value("prompt", "at least one text", "an empty list"));
        }
        let (expected, got) =
            (format!("prompts times n up to {MAX_CHOICES}"), format!("{num_texts} times {}", self.n));
        let fits = num_texts * self.n <= MAX_CHOICES;
        if fits { Ok(()) } else { Err(RequestError::value("prompt", expected, got)) }
    }

    fn validate_session(&self) -> Result<(), RequestError> {
        let Some(name) = &self.session else {
            let has_work = self.max_tokens > 0 || self.echo;
            let expected = "at least 1 without echo or a session";
            return if has_work { Ok(()) } else { Err(RequestError::value("max_tokens", expected, 0)) };
        };
        let len = name.chars().count();
        if !(1..=MAX_SESSION_NAME).contains(&len) {
            let expected = format!("a name of 1 to {MAX_SESSION_NAME} characters");
            return Err(RequestError::value("session", expected, format!("{len} characters")));
        }
        match (self.n, self.prompt.num_texts()) {
            (1, 1) => Ok(()),
            (1, texts) => {
                Err(RequestError::value("prompt", "one text in a session", format!("{texts} texts")))
            }
            (n, _) => Err(RequestError::value("n", "1 in a session", n)),
        }
    }
}
