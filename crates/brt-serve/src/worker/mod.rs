//! The thread that owns the model and the states of all texts, and its handle.

mod call;
mod engine;
mod feeding;
mod gauges;
mod job;
mod line;
mod receipt;
mod row;
mod scores;
mod session_folder;
#[cfg(test)]
mod session_tests;
mod sessions;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::SeqCst, mpsc},
    thread::{self, JoinHandle},
};

use brt_data::Tokenizer;
use brt_lm::LanguageModel;
use tokio::sync::watch;

pub use self::gauges::Load;
use self::{
    engine::Engine,
    gauges::Gauges,
    job::{Job, Message},
    line::Client,
    sessions::Sessions,
};
pub(crate) use self::{
    line::{Answers, Event},
    receipt::Receipt,
};
use crate::{
    Completion, CompletionRequest, CompletionStream, GenerationConfig, Limits, RequestError, ServeError,
    completion::Head, request::prepare, unique::random,
};

/// What a worker is besides its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Name of the model.
    pub name: String,
    /// What it takes at most.
    pub limits: Limits,
    /// Folder in which sessions outlast the process.
    pub sessions: Option<PathBuf>,
}

/// Handle of the worker thread; clones talk to the same one. Without handles the thread saves its sessions and ends.
#[derive(Debug, Clone)]
pub struct Worker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    messages: mpsc::Sender<Message>,
    gauges: Arc<Gauges>,
    tokenizer: Tokenizer,
    vocab_size: usize,
    fingerprint: String,
    created: u64,
    config: WorkerConfig,
    thread: Mutex<Option<JoinHandle<usize>>>,
    /// Closed when the thread has ended.
    ended: watch::Receiver<()>,
}

impl Worker {
    /// Starts the thread, which first reads the saved sessions.
    ///
    /// # Errors
    /// A limit of 0, a tokenizer with tokens that the model does not have, or a folder of sessions that cannot be used.
    pub fn start(
        model: LanguageModel,
        tokenizer: Tokenizer,
        config: WorkerConfig,
    ) -> Result<Self, ServeError> {
        config.limits.validate()?;
        let (vocab_size, got) = (model.config().vocab_size as usize, tokenizer.vocab_size());
        if got > vocab_size {
            return Err(ServeError::Vocabulary { vocab_size, got });
        }
        let (messages, inbox) = mpsc::channel();
        let (end, ended) = watch::channel(());
        let (ready, is_ready) = mpsc::channel();
        let gauges = Arc::new(Gauges::default());
        let fingerprint = format!("fp_{}", &model.hash()[..12]);
        let thread = {
            let (tokenizer, config, gauges) = (tokenizer.clone(), config.clone(), Arc::clone(&gauges));
            let run = move || {
                let _end = end; // Dropped where the thread ends, however.
                match Sessions::open(&model, &config.limits, config.sessions.as_deref()) {
                    Err(error) => drop(ready.send(Err(error))),
                    Ok(sessions) => {
                        let engine = Engine::new(&model, &tokenizer, &config.limits, sessions, gauges);
                        let _ = ready.send(Ok(()));
                        return engine.run(&inbox);
                    }
                }
                0
            };
            thread::Builder::new().name("brt-worker".into()).spawn(run)
        };
        let thread = Mutex::new(Some(thread.map_err(|source| ServeError::Start { source })?));
        is_ready.recv().map_err(|_| ServeError::WorkerEnded)??;
        let created = crate::unique::now();
        let shared =
            Shared { messages, gauges, tokenizer, vocab_size, fingerprint, created, config, thread, ended };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns the name of the model.
    pub fn name(&self) -> &str {
        &self.shared.config.name
    }

    /// Returns what it takes at most.
    pub fn limits(&self) -> &Limits {
        &self.shared.config.limits
    }

    /// Returns when it was started, in seconds since 1970.
    pub fn created(&self) -> u64 {
        self.shared.created
    }

    /// Returns how busy it is.
    pub fn load(&self) -> Load {
        self.shared.gauges.load()
    }

    /// Returns whether requests are still taken.
    ///
    /// # Errors
    /// Why they are not.
    pub fn check(&self) -> Result<(), RequestError> {
        if self.shared.gauges.is_stopping.load(SeqCst) {
            return Err(RequestError::Stopping);
        }
        self.shared.ended.has_changed().map(|_| ()).map_err(|_| RequestError::Failed)
    }

    /// Returns the continuation of a prompt.
    ///
    /// # Errors
    /// What is wrong with the request, or why there is no answer.
    pub async fn complete(&self, request: CompletionRequest) -> Result<Completion, RequestError> {
        self.stream(request).await?.collect().await
    }

    /// Returns the continuation of a prompt piece by piece.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream, RequestError> {
        self.check()?;
        let Shared { gauges, tokenizer, vocab_size, fingerprint, config, .. } = &*self.shared;
        let limits = &config.limits;
        if let Some(got) = request.model.as_ref().filter(|&name| *name != config.name) {
            return Err(RequestError::Model { expected: config.name.clone(), got: got.clone() });
        }
        request.validate(limits)?;
        let (client, answers) = line::line(gauges, limits.max_waiting)?;
        let head = Head::new(config.name.clone(), fingerprint.clone());
        let stream = CompletionStream::new(head, answers, &request, limits);
        let (tokenizer, limits, vocab_size) = (tokenizer.clone(), limits.clone(), *vocab_size);
        // A long text takes a while.
        let job = tokio::task::spawn_blocking(move || job(request, &tokenizer, vocab_size, &limits, client));
        let job = job.await.map_err(|_| RequestError::Failed)??;
        self.shared.messages.send(Message::Job(Box::new(job))).map_err(|_| gauges.why_not())?;
        stream.accepted().await
    }

    /// Takes no more requests; those that run go on.
    pub fn refuse(&self) {
        self.shared.gauges.is_stopping.store(true, SeqCst);
    }

    /// Ends the requests that run, saves the sessions and ends the thread.
    ///
    /// # Errors
    /// Sessions that could not be saved, or a thread that had failed.
    pub fn stop(&self) -> Result<(), ServeError> {
        self.refuse();
        let _ = self.shared.messages.send(Message::Stop); // It may have ended.
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread.map_or(Ok(0), JoinHandle::join) {
            Ok(0) => Ok(()),
            Ok(failed) => Err(ServeError::SaveSessions { failed }),
            Err(_) => Err(ServeError::WorkerEnded),
        }
    }

    /// Returns when the thread has ended.
    pub async fn ended(&self) {
        let mut ended = self.shared.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

/// Returns a request as the worker thread takes it.
fn job(
    request: CompletionRequest,
    tokenizer: &Tokenizer,
    vocab_size: usize,
    limits: &Limits,
    client: Client,
) -> Result<Job, RequestError> {
    let prompts = prepare(&request, tokenizer, vocab_size, limits)?;
    let CompletionRequest { sample, max_tokens, stop, seed, n, logprobs, echo, session, .. } = request;
    let config = GenerationConfig { sample, max_tokens, stop, seed: seed.unwrap_or_else(random) };
    Ok(Job { prompts, config, is_seeded: seed.is_some(), n, num_top: logprobs, echo, session, client })
}
