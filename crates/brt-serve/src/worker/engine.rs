//! What the worker thread does: reads prompts piece by piece and continues all texts together, one token of each at a time.

use std::{
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc,
        atomic::Ordering::SeqCst,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use brt_data::Tokenizer;
use brt_lm::{Decoder, LanguageModel};

use super::{
    call::Call,
    feeding::{Fed, Feeding},
    gauges::Gauges,
    job::{Job, Message},
    line::Event,
    row::{Row, is_finite, values},
    sessions::Sessions,
};
use crate::{Limits, RequestError, request::GoesOn};

/// How long the thread sleeps while all that it could do waits for clients.
const STALLED_PAUSE: Duration = Duration::from_millis(5);
/// How long the end of the server waits for receipts of last pieces that are on their way.
const RECEIPT_TIME: Duration = Duration::from_secs(1);
/// How long it sleeps at most without anything to do.
const IDLE_PAUSE: Duration = Duration::from_secs(3600);

/// A prompt that waits for its turn.
type Waiting = (Rc<Call>, usize);

/// The texts that the thread works on.
pub(super) struct Engine<'a> {
    decoder: Decoder<'a>,
    tokenizer: &'a Tokenizer,
    limits: &'a Limits,
    sessions: Sessions<'a>,
    gauges: Arc<Gauges>,
    waiting: VecDeque<Waiting>,
    feeding: VecDeque<Feeding>,
    ready: VecDeque<Fed>,
    rows: Vec<Row>,
    has_worked: bool,
}

impl<'a> Engine<'a> {
    pub(super) fn new(
        model: &'a LanguageModel,
        tokenizer: &'a Tokenizer,
        limits: &'a Limits,
        sessions: Sessions<'a>,
        gauges: Arc<Gauges>,
    ) -> Self {
        let decoder = Decoder::new(model);
        let (waiting, feeding, ready) = Default::default();
        let engine = Self {
            decoder,
            tokenizer,
            limits,
            sessions,
            gauges,
            waiting,
            feeding,
            ready,
            rows: vec![],
            has_worked: false,
        };
        engine.count();
        engine
    }

    /// Works until it is told to stop, and returns the number of sessions that could not be saved.
    pub(super) fn run(mut self, messages: &Receiver<Message>) -> usize {
        while self.receive(messages) {
            self.has_worked = false;
            self.let_go();
            self.start_prompts();
            self.count();
            self.read_piece();
            self.join();
            self.step();
            self.finish();
            self.sessions.expire_due();
            self.count();
        }
        self.stop();
        self.sessions.close()
    }

    /// Returns the places that are taken: one for each text, also for those whose prompt is still read.
    fn num_places(&self) -> usize {
        let feeding: usize = self.feeding.iter().map(|feeding| self.places_of(&feeding.call)).sum();
        let ready: usize = self.ready.iter().map(Fed::num_left).sum();
        feeding + ready + self.rows.len()
    }

    /// Returns the places that a prompt needs: one for each choice, or all where there are more choices than places.
    fn places_of(&self, call: &Call) -> usize {
        call.job.n.min(self.limits.max_running)
    }

    fn is_idle(&self) -> bool {
        self.num_places() == 0 && self.waiting.is_empty()
    }

    /// Takes all new requests; waits for one where nothing else is to do. Returns whether to go on.
    fn receive(&mut self, messages: &Receiver<Message>) -> bool {
        let pause = match (self.has_worked, self.is_idle()) {
            (true, _) => Duration::ZERO,
            (false, false) => STALLED_PAUSE,
            (false, true) => self.sessions.pause().unwrap_or(IDLE_PAUSE),
        };
        let mut message = messages.recv_timeout(pause);
        loop {
            match message {
                Ok(Message::Job(job)) => self.accept(*job),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => break,
            }
            message = messages.recv_timeout(Duration::ZERO);
        }
        if self.is_idle() {
            self.sessions.rest();
        }
        true
    }

    fn accept(&mut self, job: Job) {
        self.settle(); // Who has the last piece of an answer may ask the next at once.
        let goes_on = match job.session.as_ref().map_or(Ok(GoesOn::No), |name| self.sessions.take(name)) {
            Ok(goes_on) => goes_on,
            Err(error) => return drop(job.client.reason.set(error)),
        };
        let call = Rc::new(Call::new(job, goes_on));
        let lens = call.job.prompts.iter().map(|prompt| prompt.at(goes_on).tokens.len());
        let prompt_tokens: usize = lens.sum();
        if prompt_tokens == 0 && goes_on == GoesOn::No {
            let error = RequestError::value("prompt", "at least one token in a new session", "none");
            return call.fail(error, &mut self.sessions);
        }
        let _ = call.job.client.events.try_send(Event::Accepted { prompt_tokens }); // The client may have gone.
        self.waiting.extend((0..call.job.prompts.len()).map(|prompt_idx| (Rc::clone(&call), prompt_idx)));
    }

    /// Drops what nobody waits for any more.
    fn let_go(&mut self) {
        self.settle();
        let limit = self.limits.stall_time;
        for row in &mut self.rows {
            row.deliver();
            if row.call.is_stalled(limit) {
                row.call.fail(RequestError::SlowReader { secs: limit.as_secs() }, &mut self.sessions);
            }
        }
        let sessions = &mut self.sessions;
        let mut stays = |call: &Call| {
            if call.is_gone() {
                call.give_up(sessions);
            }
            !call.is_gone()
        };
        self.waiting.retain(|(call, _)| stays(call));
        self.feeding.retain(|feeding| stays(&feeding.call));
        self.ready.retain(|fed| stays(&fed.call));
        // A last piece may be on its way although the stream has ended.
        self.rows.retain(|row| (row.is_awaited() && !row.call.is_over()) || stays(&row.call));
        self.rows.retain(|row| !row.is_done());
    }

    /// Gives sessions back whose clients have the last piece, or have gone without it.
    fn settle(&mut self) {
        for row in &mut self.rows {
            row.settle(&mut self.sessions);
        }
    }

    /// Lets prompts begin, the first come first, while there is room for their texts.
    fn start_prompts(&mut self) {
        let mut num_places = self.num_places();
        while let Some((call, _)) = self.waiting.front() {
            num_places += self.places_of(call);
            if num_places > self.limits.max_running {
                return;
            }
            let Some((call, prompt_idx)) = self.waiting.pop_front() else { return };
            call.job.client.waits.end();
            self.feeding.push_back(Feeding::new(call, prompt_idx, &self.decoder, &self.sessions));
        }
    }

    /// Reads a piece of the prompt whose turn it is: a long one does not hold up the others.
    fn read_piece(&mut self) {
        let Some(mut feeding) = self.feeding.pop_front() else { return };
        self.has_worked = true;
        match feeding.read_piece(&self.decoder, self.tokenizer) {
            Ok(true) => self.ready.push_back(feeding.fed()),
            Ok(false) => self.feeding.push_back(feeding),
            Err(error) => feeding.call.fail(error, &mut self.sessions),
        }
    }

    /// Lets choices begin while there is room for their states, that of the prompt included while others need it.
    fn join(&mut self) {
        while let Some(fed) = self.ready.front_mut() {
            let num_states = self.rows.len() + usize::from(fed.num_left() > 1);
            if num_states >= self.limits.max_running && !self.rows.is_empty() {
                return;
            }
            self.rows.extend(fed.begin(self.tokenizer));
            if fed.num_left() == 0 {
                self.ready.pop_front();
            }
        }
    }

    /// Draws a token of each text and reads it, all texts at once.
    fn step(&mut self) {
        // Choices of one request share its line: each is the first in turn.
        if !self.rows.is_empty() {
            self.rows.rotate_left(1);
        }
        for row in &mut self.rows {
            row.draw();
            row.deliver();
        }
        let mut stepping: Vec<usize> = vec![];
        let (mut texts, mut tokens) = (vec![], vec![]);
        for (idx, row) in self.rows.iter_mut().enumerate() {
            if let Some((text, token)) = row.next() {
                stepping.push(idx);
                texts.push(text);
                tokens.push(token);
            }
        }
        if !tokens.is_empty() {
            self.has_worked = true;
            let logits = values(&self.decoder.step(&mut texts, &tokens)); // [B, V]
            let vocab_size = logits.len() / tokens.len();
            for (idx, logits) in stepping.into_iter().zip(logits.chunks_exact(vocab_size)) {
                self.rows[idx].set_logits(logits);
                if !is_finite(logits) {
                    self.rows[idx].call.fail(RequestError::NotFinite, &mut self.sessions);
                }
            }
            self.rows.retain(|row| !row.call.is_over());
        }
    }

    /// Ends the texts that are complete, and counts before their clients hear of it.
    fn finish(&mut self) {
        for row in &mut self.rows {
            row.finish();
        }
        self.count();
        for row in &mut self.rows {
            row.deliver();
        }
        self.rows.retain(|row| !row.is_done());
    }

    fn count(&self) {
        let continued = self.rows.iter().filter(|row| row.goes_on()).count();
        let ready = self.ready.iter().filter(|fed| fed.num_begun() == 0).count();
        self.gauges.running.store(self.feeding.len() + ready + continued, SeqCst);
        self.gauges.sessions.store(self.sessions.len(), SeqCst);
    }

    /// Tells all who wait that there will be no answer.
    fn stop(&mut self) {
        self.settle();
        // What the connection is taking at this moment counts.
        let end = Instant::now() + RECEIPT_TIME;
        while self.rows.iter().any(Row::is_awaited) && Instant::now() < end {
            std::thread::sleep(STALLED_PAUSE);
            self.settle();
        }
        let calls = self.waiting.drain(..).map(|(call, _)| call);
        let calls = calls.chain(self.feeding.drain(..).map(|feeding| feeding.call));
        let calls = calls.chain(self.ready.drain(..).map(|fed| fed.call));
        let calls = calls.chain(self.rows.drain(..).map(|row| row.call));
        for call in calls {
            call.fail(RequestError::Stopping, &mut self.sessions);
        }
    }
}
