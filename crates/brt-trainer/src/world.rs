//! The processes that train one model together; one alone is a world, too.

use std::{rc::Rc, time::Duration};

use brt_data::Rank;
use brt_native::{GradientReducer, ProcessGroup, Rendezvous};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tch::Tensor;

use crate::TrainError;

/// The processes that train one model together. Each has its own rows of the batch, its own caches and states; parameters
/// and optimiser are the same on all.
#[derive(Debug, Clone, Default)]
pub struct World {
    group: Option<Rc<ProcessGroup>>,
}

/// What a process tells the others: what it has, or why it stops.
#[derive(Debug, Serialize, Deserialize)]
enum Message<T> {
    Has(T),
    Stops(String),
}

impl World {
    /// Returns the world of one process.
    pub fn alone() -> Self {
        Self::default()
    }

    /// Returns the world of a group of processes.
    pub fn of(group: ProcessGroup) -> Self {
        Self { group: Some(Rc::new(group)) }
    }

    /// Joins the processes that the environment names, as torchrun sets it ([`Rendezvous::from_env`]), or returns the world
    /// of one where it names none. Nothing between processes may take longer than `timeout`.
    ///
    /// # Errors
    /// [`TrainError::Group`].
    pub fn join(rendezvous: Option<&Rendezvous>, timeout: Duration) -> Result<Self, TrainError> {
        Ok(match rendezvous {
            Some(rendezvous) => Self::of(rendezvous.join(timeout)?),
            None => Self::alone(),
        })
    }

    /// Returns the number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.group.as_ref().map_or(0, |group| group.rank())
    }

    /// Returns the number of processes.
    pub fn size(&self) -> usize {
        self.group.as_ref().map_or(1, |group| group.world_size())
    }

    /// Returns whether this process writes what there is once: model, metrics, result.
    pub fn is_main(&self) -> bool {
        self.rank() == 0
    }

    /// Returns which share of the rows is this process's.
    pub(crate) fn share(&self) -> Rank {
        Rank { idx: self.rank(), count: self.size() }
    }

    /// Returns the sums of numbers over all processes, the same to the last bit on each.
    pub(crate) fn sum<const N: usize>(&self, numbers: [f64; N]) -> Result<[f64; N], TrainError> {
        Ok(match &self.group {
            Some(group) => group.sum(numbers)?,
            None => numbers,
        })
    }

    /// Returns whether any process says yes.
    pub(crate) fn any(&self, own: bool) -> Result<bool, TrainError> {
        Ok(self.sum([f64::from(u8::from(own))])?[0] > 0.)
    }

    /// Makes the parameters those of rank 0, and returns what sums their gradients; `None` for one process.
    pub(crate) fn reducer(&self, parameters: &[Tensor]) -> Result<Option<GradientReducer>, TrainError> {
        let Some(group) = &self.group else { return Ok(None) };
        if parameters.first().is_some_and(|p| p.device().is_cuda()) {
            group.add_gpus()?;
        }
        let reducer = GradientReducer::new(Rc::clone(group), parameters)?;
        tch::no_grad(|| group.broadcast(parameters, 0))?;
        Ok(Some(reducer))
    }

    /// Returns what all processes have, by rank.
    pub(crate) fn exchange<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<Vec<T>, TrainError> {
        Ok(match &self.group {
            Some(_) => self.tell(Message::Has(own))?,
            None => vec![own],
        })
    }

    /// Returns what this process has, if every one has something. An error of any is one on all: its own on the process that
    /// has it, and on the others whose it is and what it says.
    pub(crate) fn agree<T>(&self, own: Result<T, TrainError>) -> Result<T, TrainError> {
        if self.group.is_none() {
            return own;
        }
        let told = self.tell(match &own {
            Ok(_) => Message::Has(()),
            Err(error) => Message::Stops(error.whole_text()),
        });
        let own = own?; // Says more than what became of the others.
        told.map(|_| own)
    }

    /// Sends a message to all, and returns what all have, unless one stops.
    fn tell<T: Serialize + DeserializeOwned>(&self, message: Message<T>) -> Result<Vec<T>, TrainError> {
        let Some(group) = &self.group else { return Ok(vec![]) };
        let bytes = serde_json::to_vec(&message).map_err(|error| unreadable(self.rank(), &error))?;
        let messages = group.all_gather_bytes(&bytes)?;
        let read = |(rank, bytes): (usize, &Vec<u8>)| match serde_json::from_slice(bytes) {
            Ok(Message::Has(value)) => Ok(value),
            Ok(Message::Stops(text)) => Err(TrainError::OtherProcess { rank, text }),
            Err(error) => Err(unreadable(rank, &error)),
        };
        messages.iter().enumerate().map(read).collect()
    }

    /// Does something on rank 0 while the others wait.
    pub(crate) fn on_main(&self, work: impl FnOnce() -> Result<(), TrainError>) -> Result<(), TrainError> {
        self.agree(if self.is_main() { work() } else { Ok(()) })
    }
}

/// Returns the error of a message between processes that is none.
fn unreadable(rank: usize, error: &serde_json::Error) -> TrainError {
    TrainError::OtherProcess { rank, text: format!("expected a message of it, got {error}") }
}
