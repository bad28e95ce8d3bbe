//! States of rows in a checkpoint: each process writes those of its rows, and any number of processes reads them.

use std::path::Path;

use brt_data::Rank;
use brt_lm::{LanguageModel, ModelState};
use brt_ops::checkpoint::load_into;

use super::{TrainerRecord, verify};
use crate::{TrainError, World};

/// Returns the name of one process's file of `kind`: `state-0-of-4.safetensors`.
pub(super) fn file_name(kind: &str, Rank { idx, count }: Rank) -> String {
    format!("{kind}-{idx}-of-{count}.safetensors")
}

/// Returns the states of this process's rows, of `num_rows` rows of all, from the files of the processes that wrote them.
pub(super) fn read(
    checkpoint: &Path,
    record: &TrainerRecord,
    kind: &str,
    (model, num_rows, world): (&LanguageModel, usize, &World),
) -> Result<ModelState, TrainError> {
    let own = world.share().rows(num_rows);
    let mut parts = vec![];
    for idx in 0..record.world_size {
        let writer = Rank { idx, count: record.world_size };
        let rows = writer.rows(num_rows);
        let wanted = own.start.max(rows.start)..own.end.min(rows.end);
        if wanted.is_empty() {
            continue;
        }
        let state = model.initial_state(rows.len() as i64).detach();
        let file = file_name(kind, writer);
        verify(checkpoint, &file, record)?;
        load_into(&checkpoint.join(file), &state.named())?;
        let first = (wanted.start - rows.start) as i64;
        parts.push(state.map(|x| x.narrow(0, first, wanted.len() as i64)));
    }
    Ok(match parts.len() {
        0 => model.initial_state(0).detach(), // With more processes than rows some have none.
        _ => ModelState::join(&parts),
    })
}
