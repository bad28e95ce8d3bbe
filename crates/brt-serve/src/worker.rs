//! The thread that owns the model and the states of all sessions.

use std::{collections::HashMap, thread};

use brt_data::{TextPlace, Tokenizer};
use brt_lm::{Decoder, LanguageModel, Sampler, TextState};
use tokio::sync::{mpsc, oneshot};

use crate::{CompletionRequest, CompletionResponse, RequestError, request::MAX_SESSIONS};

type Answer = Result<CompletionResponse, RequestError>;
type Job = (CompletionRequest, oneshot::Sender<Answer>);

/// Handle of the worker thread; clones talk to the same one.
#[derive(Debug, Clone)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
}

/// A text that the model has read.
struct Session {
    text: TextState,
}

impl Worker {
    /// Starts the thread. It ends when the last handle is dropped.
    pub fn start(model: LanguageModel, tokenizer: Tokenizer) -> Self {
        let (jobs, mut queue) = mpsc::channel::<Job>(64);
        thread::spawn(move || {
            let mut sessions = HashMap::new();
            while let Some((request, answer)) = queue.blocking_recv() {
                if !answer.is_closed() {
                    let _ = answer.send(complete(&model, &tokenizer, &mut sessions, &request)); // The client may have gone.
                }
            }
        });
        Self { jobs }
    }

    /// Returns the continuation of a prompt.
    ///
    /// # Errors
    /// A value that the request gets wrong, or one session too many.
    pub async fn complete(&self, request: CompletionRequest) -> Result<CompletionResponse, RequestError> {
        request.validate()?;
        let (answer, answered) = oneshot::channel();
        self.jobs.send((request, answer)).await.map_err(|_| RequestError::Stopped)?;
        answered.await.map_err(|_| RequestError::Stopped)?
    }
}

fn complete(
    model: &LanguageModel,
    tokenizer: &Tokenizer,
    sessions: &mut HashMap<String, Session>,
    request: &CompletionRequest,
) -> Answer {
    let is_new = request.session.as_ref().is_some_and(|name| !sessions.contains_key(name));
    if is_new && sessions.len() >= MAX_SESSIONS {
        return Err(RequestError::TooManySessions);
    }
    let place = match is_new || request.session.is_none() {
        true => TextPlace::Start,
        false => TextPlace::Continuation,
    };
    let prompt = tokenizer.encode(request.prompt.as_bytes(), place).map_err(RequestError::Prompt)?.tokens;
    if prompt.is_empty() {
        return Err(RequestError::EmptyPrompt);
    }
    let decoder = Decoder::new(model);
    let known = request.session.as_ref().and_then(|name| sessions.remove(name));
    let mut session = known.unwrap_or_else(|| Session { text: decoder.start() });
    let config = request.sample();

    let mut logits =
        decoder.feed(&mut session.text, &prompt.iter().copied().map(i64::from).collect::<Vec<_>>());
    let (mut sampler, mut drawn) = (Sampler::new(config, request.seed), vec![]);
    for _ in 0..request.max_tokens {
        let token = sampler.draw(&Vec::<f32>::try_from(&logits).expect("a vector"), &session.text.recent());
        drawn.push(token as u32);
        logits = decoder.step(&mut [&mut session.text], &[token]).squeeze_dim(0);
    }
    let text = String::from_utf8_lossy(&tokenizer.decode_after(&prompt, &drawn)).into_owned();
    let response = CompletionResponse { text, num_tokens: session.text.num_tokens() as usize };
    if let Some(name) = &request.session {
        sessions.insert(name.clone(), session);
    }
    Ok(response)
}
