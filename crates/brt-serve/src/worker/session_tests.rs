//! Sessions in their folder, without a worker.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, thread};

use brt_lm::{CellLayout, Decoder, Gate, LanguageModel, ModelConfig, RecurrenceConfig};
use tch::Device;

use super::{session_folder::key, sessions::Sessions};
use crate::{Limits, RequestError, ServeError, request::GoesOn};

fn model(seed: u64) -> LanguageModel {
    let config = ModelConfig {
        vocab_size: 8,
        model_dim: 8,
        num_layers: 1,
        num_heads: 1,
        head_dim: 8,
        ffn_dim: 8,
        window_len: 4,
        recurrence: Some(RecurrenceConfig::new(vec![0], Gate::Fixed, CellLayout::Skip, 2)),
        ..ModelConfig::paper()
    };
    LanguageModel::new(config, seed, Device::Cpu).unwrap()
}

/// Reads something in a session.
fn read(sessions: &mut Sessions, model: &LanguageModel, name: &str) {
    sessions.take(name).unwrap();
    let decoder = Decoder::new(model);
    let mut text = decoder.start();
    let _ = decoder.feed(&mut text, &[1, 2, 3]);
    sessions.keep(name, text);
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "sessions.lock").collect();
    names.sort();
    names
}

fn limits(max_sessions: usize, max_saved_sessions: usize) -> Limits {
    Limits { max_sessions, max_saved_sessions, ..Limits::default() }
}

#[test]
fn a_panic_loses_no_session() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    fs::write(path.join(format!("session-{}.part", key("t"))), "half").unwrap();
    let worker = thread::spawn(move || {
        let model = model(1);
        let mut sessions = Sessions::open(&model, &Limits::default(), Some(&path)).unwrap();
        read(&mut sessions, &model, "s");
        panic!("as a worker may");
    });
    assert!(worker.join().is_err());
    let file = format!("session-{}.safetensors", key("s"));
    assert_eq!(names(folder.path()), std::slice::from_ref(&file));
    assert_eq!(fs::metadata(folder.path().join(file)).unwrap().permissions().mode() & 0o777, 0o600);
    let model = model(1);
    let mut sessions = Sessions::open(&model, &Limits::default(), Some(folder.path())).unwrap();
    assert_eq!(sessions.take("s"), Ok(GoesOn::Yes));
}

#[test]
fn files_of_others_do_not_give_way_and_the_last_used_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (model(1), model(2));
    let write = |model: &LanguageModel, names: &[&str]| {
        let mut sessions = Sessions::open(model, &limits(9, 2), Some(folder.path())).unwrap();
        names.iter().for_each(|name| read(&mut sessions, model, name));
        sessions.close()
    };
    assert_eq!(write(&other, &["theirs", "too"]), 0);
    let damaged = folder.path().join(format!("session-{}.safetensors", key("damaged")));
    fs::write(&damaged, "not a state").unwrap();
    assert_eq!(write(&one, &["a", "b", "c", "d"]), 0);
    let mut expected =
        ["theirs", "too", "damaged", "c", "d"].map(|name| format!("session-{}.safetensors", key(name)));
    expected.sort();
    assert_eq!(names(folder.path()), expected);
}

#[test]
fn a_folder_is_for_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(1);
    let sessions = Sessions::open(&model, &Limits::default(), Some(folder.path())).unwrap();
    let error = Sessions::open(&model, &Limits::default(), Some(folder.path())).unwrap_err();
    assert!(matches!(&error, ServeError::SessionsInUse { path } if path == folder.path()));
    assert!(
        error.to_string().ends_with(": expected a folder that no other server uses, got one that is in use")
    );
    drop(sessions);
    assert!(Sessions::open(&model, &Limits::default(), Some(folder.path())).is_ok());
}

#[test]
fn a_session_that_cannot_be_saved_does_not_give_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions");
    let model = model(1);
    let mut sessions = Sessions::open(&model, &limits(1, 9), Some(&path)).unwrap();
    read(&mut sessions, &model, "s");
    fs::remove_dir_all(&path).unwrap();
    let error = sessions.take("t").unwrap_err();
    assert_eq!((error.status(), &error), ((500, "session_not_saved"), &RequestError::SessionNotSaved));
    assert_eq!(
        error.to_string(),
        "session: expected one that gives way to be saved, got one that cannot be; the server's log says why"
    );
    assert_eq!(sessions.take("s"), Ok(GoesOn::Yes));
    assert_eq!(sessions.close(), 1);
}
