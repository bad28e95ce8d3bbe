//! Sessions: states of texts that go on with a later request.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use brt_lm::{LanguageModel, TextState};
use tch::{Device, Kind, Tensor};

use super::session_folder::{SessionFolder, key};
use crate::{Limits, RequestError, ServeError, request::GoesOn};

/// After this time without a request what has changed is saved.
const QUIET: Duration = Duration::from_secs(2);
/// After this time a session that could not be saved is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// The sessions of a worker, bounded in number and idle time.
#[derive(Debug)]
pub(super) struct Sessions<'a> {
    model: &'a LanguageModel,
    max: usize,
    idle: Duration,
    folder: Option<SessionFolder>,
    known: HashMap<String, Session>,
    /// No session has been idle for too long before this.
    next_expiry: Instant,
    /// When what has changed is to be saved.
    next_save: Option<Instant>,
}

#[derive(Debug)]
struct Session {
    /// The state after the last request that succeeded; `None` before the first.
    text: Option<TextState>,
    used: Instant,
    is_busy: bool,
    /// Whether the folder has it as it is here.
    is_saved: bool,
}

impl Session {
    /// Returns a session that nobody uses, as it is in the folder.
    fn idle(text: Option<TextState>) -> Self {
        Self { text, used: Instant::now(), is_busy: false, is_saved: true }
    }

    fn goes_on(&self) -> GoesOn {
        match self.text.as_ref().is_some_and(|text| text.num_tokens() > 0) {
            true => GoesOn::Yes,
            false => GoesOn::No,
        }
    }
}

impl<'a> Sessions<'a> {
    /// Returns the sessions of a folder, the last written first; none without one. A file that is no state of this model is
    /// logged and left alone.
    pub(super) fn open(
        model: &'a LanguageModel,
        limits: &Limits,
        folder: Option<&Path>,
    ) -> Result<Self, ServeError> {
        let mut sessions = Self {
            model,
            max: limits.max_sessions,
            idle: limits.session_idle,
            folder: None,
            known: HashMap::new(),
            next_expiry: Instant::now(),
            next_save: None,
        };
        if let Some(path) = folder {
            let mut folder = SessionFolder::open(path, limits.max_saved_sessions, model)?;
            for key in folder.keys() {
                if sessions.known.len() == sessions.max {
                    break;
                }
                match folder.load(&key, model) {
                    Ok(text) => drop(sessions.known.insert(key, Session::idle(text))),
                    Err(error) => {
                        tracing::warn!("session skipped: {error}");
                        folder.disown(&key);
                    }
                }
            }
            sessions.folder = Some(folder);
        }
        Ok(sessions)
    }

    /// Returns the number of sessions in memory.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Takes a session for one request, until [`Sessions::keep`] or [`Sessions::release`]; makes it where it is not there.
    pub(super) fn take(&mut self, name: &str) -> Result<GoesOn, RequestError> {
        let key = key(name);
        if !self.known.contains_key(&key) {
            let saved = self.folder.as_ref().map(|folder| folder.load(&key, self.model)).transpose();
            let saved = saved.map_err(|error| {
                tracing::warn!("session refused: {error}");
                RequestError::SessionFile
            })?;
            self.make_room()?;
            self.known.insert(key.clone(), Session::idle(saved.flatten()));
        }
        match self.known.get_mut(&key) {
            Some(session) if !session.is_busy => {
                session.is_busy = true;
                Ok(session.goes_on())
            }
            _ => Err(RequestError::SessionBusy { name: name.to_owned() }),
        }
    }

    /// Returns a copy of the state that a session has; `None` for a new one.
    pub(super) fn copy(&self, name: &str) -> Option<TextState> {
        self.known.get(&key(name))?.text.as_ref().map(TextState::copy)
    }

    /// Gives a session back with the state after a request.
    pub(super) fn keep(&mut self, name: &str, text: TextState) {
        let session = Session { is_saved: false, ..Session::idle(Some(text)) };
        self.known.insert(key(name), session);
        self.next_save = self.folder.as_ref().map(|_| Instant::now() + QUIET);
    }

    /// Gives a session back as it was before the request.
    pub(super) fn release(&mut self, name: &str) {
        let key = key(name);
        if let Some(session) = self.known.get_mut(&key) {
            session.is_busy = false;
            session.used = Instant::now();
            if session.text.is_none() {
                self.known.remove(&key);
            }
        }
    }

    /// Lets sessions go that nobody has used for too long, where it is time to look for some.
    pub(super) fn expire_due(&mut self) {
        if Instant::now() >= self.next_expiry {
            self.expire();
            self.next_expiry = Instant::now() + self.next_expiry().unwrap_or(self.idle);
        }
    }

    fn expire(&mut self) {
        let is_over = |session: &Session| !session.is_busy && session.used.elapsed() >= self.idle;
        let over: Vec<String> =
            self.known.iter().filter(|(_, session)| is_over(session)).map(|(key, _)| key.clone()).collect();
        for key in over {
            if !self.leave(&key)
                && let Some(session) = self.known.get_mut(&key)
            {
                session.used = Instant::now(); // Later there may be room for its file.
            }
        }
    }

    /// Saves one session that has changed, where it is time to and nothing else is to do.
    pub(super) fn rest(&mut self) {
        if self.next_save.is_none_or(|time| Instant::now() < time) {
            return;
        }
        let is_changed = |session: &Session| !session.is_busy && !session.is_saved && session.text.is_some();
        let changed = self.known.iter().find(|(_, session)| is_changed(session));
        self.next_save = match changed.map(|(key, _)| key.clone()) {
            Some(key) if self.save(&key) => Some(Instant::now()),
            Some(_) => Some(Instant::now() + RETRY),
            None => None,
        };
    }

    /// Returns the time until there is something to do without a request.
    pub(super) fn pause(&self) -> Option<Duration> {
        let next_save = self.next_save.map(|time| time.saturating_duration_since(Instant::now()));
        self.next_expiry().into_iter().chain(next_save).min()
    }

    /// Returns the time until the next session has been idle for too long.
    fn next_expiry(&self) -> Option<Duration> {
        let idle = self.known.values().filter(|session| !session.is_busy);
        idle.map(|session| self.idle.saturating_sub(session.used.elapsed())).min()
    }

    /// Saves all sessions where there is a folder, leaves it, and returns how many could not be saved.
    pub(super) fn close(&mut self) -> usize {
        let mut keys: Vec<(Instant, String)> =
            self.known.iter().map(|(key, session)| (session.used, key.clone())).collect();
        keys.sort(); // The last used is written last, and stays where there are too many.
        let num_failed = keys.iter().filter(|(_, key)| !self.save(key)).count();
        self.folder = None;
        num_failed
    }

    /// Lets the session go that was not used for longest, where there are too many.
    fn make_room(&mut self) -> Result<(), RequestError> {
        while self.known.len() >= self.max {
            let idle = self.known.iter().filter(|(_, session)| !session.is_busy);
            let oldest = idle.min_by_key(|(_, session)| session.used).map(|(key, _)| key.clone());
            let oldest = oldest.ok_or(RequestError::TooManySessions { max: self.max })?;
            if !self.leave(&oldest) {
                return Err(RequestError::SessionNotSaved);
            }
        }
        Ok(())
    }

    /// Takes a session out of the memory; not where it should be saved and cannot be.
    fn leave(&mut self, key: &str) -> bool {
        self.save(key) && self.known.remove(key).is_some()
    }

    /// Saves a session where there is a folder; returns whether it is safe to forget it.
    fn save(&mut self, key: &str) -> bool {
        let (Some(folder), Some(session)) = (&mut self.folder, self.known.get_mut(key)) else { return true };
        let Some(text) = session.text.as_ref().filter(|_| !(session.is_saved && folder.contains(key))) else {
            return true;
        };
        match folder.save(key, text, self.model) {
            Ok(()) => session.is_saved = true,
            Err(error) => tracing::error!("session not saved: {error}"),
        }
        session.is_saved
    }
}

impl Drop for Sessions<'_> {
    /// Saves them also where the thread has panicked, unless the device is what has failed.
    fn drop(&mut self) {
        let device = self.model.params().device();
        let probe = Tensor::f_ones([1], (Kind::Float, device)).and_then(|one| one.f_to_device(Device::Cpu));
        match probe {
            Ok(_) => drop(self.close()),
            Err(error) => tracing::error!("sessions not saved: {error}"),
        }
    }
}
