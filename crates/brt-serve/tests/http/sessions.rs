//! States that are kept between requests.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use brt_serve::Limits;
use serde_json::{Value, json};

use crate::common::{Options, Server, text};

/// Returns the greedy continuation in a session.
fn go_on(server: &Server, session: &str, prompt: &str, max_tokens: usize) -> Value {
    server.ask(json!({"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "session": session}))
}

/// Reads a text in a session and draws nothing.
fn read(server: &Server, session: &str, prompt: &str) -> u64 {
    go_on(server, session, prompt, 0)["session_tokens"].as_u64().unwrap()
}

#[test]
fn a_session_equals_one_long_prompt() {
    let server = Server::start();
    let expected = server.text("one text in three parts", 20);
    assert_eq!(read(&server, "s", "one text"), 8);
    assert_eq!(read(&server, "s", " in three"), 17);
    let answer = go_on(&server, "s", " parts", 20);
    assert_eq!(text(&answer), expected);
    assert_eq!(answer["session_tokens"], 43);
    assert_eq!(answer["usage"]["prompt_tokens"], 6);
    assert_eq!(server.health()["sessions"], 1);
}

#[test]
fn a_session_has_read_what_was_drawn() {
    let server = Server::start();
    // No new text is needed: the next request goes on where the last one ended, if its bytes are whole characters or not.
    let tokens = |answer: &Value| answer["choices"][0]["logprobs"]["tokens"].as_array().unwrap().clone();
    let ask = |body: Value| {
        let mut body = body;
        (body["temperature"], body["logprobs"]) = (json!(0), json!(0));
        server.ask(body)
    };
    let expected = tokens(&ask(json!({"prompt": "drawn", "max_tokens": 30})));
    let first = tokens(&ask(json!({"prompt": "drawn", "max_tokens": 13, "session": "s"})));
    let second = tokens(&ask(json!({"prompt": "", "max_tokens": 9, "session": "s"})));
    let third = tokens(&ask(json!({"max_tokens": 8, "session": "s"})));
    assert_eq!([first, second, third].concat(), expected);
    let stream = server.post(
        &json!({"prompt": "x", "stream": true, "session": "s", "stream_options": {"include_usage": true}}),
    );
    assert_eq!(stream.events().0.last().unwrap()["session_tokens"], 5 + 30 + 1 + 16);
}

#[test]
fn the_first_score_of_a_later_request_is_known() {
    let server = Server::start();
    let score = |body: Value| server.ask(body)["choices"][0]["logprobs"]["token_logprobs"].take();
    let whole = score(json!({"prompt": "abcdef", "max_tokens": 0, "echo": true, "logprobs": 0}));
    let part = |prompt: &str| {
        score(json!({"prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 0, "session": "s"}))
    };
    let parts = [part("abc"), part("def")].map(|part| part.as_array().unwrap().clone()).concat();
    assert!(parts[0].is_null() && parts[3].is_number());
    for (one, other) in parts[1..].iter().zip(&whole.as_array().unwrap()[1..]) {
        assert!((one.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 1e-4);
    }
}

#[test]
fn a_session_is_for_one_request_at_a_time_and_stays_as_it_was_where_one_breaks_off() {
    let server = Server::limited(|limits| limits.max_tokens = 1_000_000);
    let expected = server.text("kept as it was", 10);
    read(&server, "s", "kept as");
    let running = server.send(&json!({"prompt": "never mind", "max_tokens": 1_000_000, "session": "s"}));
    server.wait_for("running", 1);
    let answer = server.post(&json!({"prompt": "a", "session": "s"}));
    assert_eq!((answer.status, answer.json()["error"]["param"].take()), (409, json!("session")));
    assert_eq!(
        answer.message(),
        "session: expected one that is idle, got `s`, which another request is using"
    );
    assert!(answer.head.contains("retry-after: 1"));
    assert_eq!(read(&server, "other", "a"), 1);
    drop(running);
    server.wait_for("running", 0);
    assert_eq!(text(&go_on(&server, "s", " it was", 10)), expected);

    // A new session of a request that broke off is none.
    let running = server.send(&json!({"prompt": "a", "max_tokens": 1_000_000, "session": "new"}));
    server.wait_for("sessions", 3);
    drop(running);
    server.wait_for("sessions", 2);
    assert_eq!(server.post(&json!({"prompt": "", "session": "new"})).status, 400);
}

#[test]
fn the_session_not_used_for_longest_gives_way() {
    let server = Server::limited(|limits| limits.max_sessions = 2);
    read(&server, "a", "one");
    read(&server, "b", "two");
    assert_eq!(read(&server, "a", "one"), 6);
    read(&server, "c", "three");
    assert_eq!(server.health()["sessions"], 2);
    assert_eq!(read(&server, "a", "x"), 7);
    assert_eq!(read(&server, "b", "two"), 3, "it was forgotten");
}

#[test]
fn sessions_in_use_do_not_give_way() {
    let server = Server::limited(|limits| {
        limits.max_sessions = 1;
        limits.max_tokens = 1_000_000;
    });
    let running = server.send(&json!({"prompt": "a", "max_tokens": 1_000_000, "session": "s"}));
    server.wait_for("running", 1);
    let answer = server.post(&json!({"prompt": "a", "session": "t"}));
    assert_eq!(answer.status, 429);
    assert_eq!(answer.message(), "session: expected at most 1 at once, got one more");
    drop(running);
}

#[test]
fn an_idle_session_goes() {
    let server = Server::limited(|limits| limits.session_idle = Duration::from_secs(2));
    read(&server, "s", "abc");
    assert_eq!(server.health()["sessions"], 1);
    server.wait_for("sessions", 0);
    assert_eq!(read(&server, "s", "abc"), 3);
}

fn in_folder(folder: &Path, change: impl FnOnce(&mut Limits)) -> Options {
    let mut options = Options { sessions: Some(folder.join("sessions")), ..Options::default() };
    change(&mut options.limits);
    options
}

fn num_files(folder: &Path) -> usize {
    let names = fs::read_dir(folder.join("sessions")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".safetensors")).count()
}

#[test]
fn saved_sessions_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = in_folder(folder.path(), |_| ());
    let server = Server::with(options.clone());
    let expected = server.text("before and after", 20);
    let names = ["s", "../../etc/passwd", "a/b", "é \u{1F980}", &"x".repeat(128)];
    for name in names {
        read(&server, name, "before");
    }
    server.stop();
    assert_eq!(num_files(folder.path()), names.len());

    let server = Server::with(options.clone());
    assert_eq!(server.health()["sessions"], names.len());
    for name in names {
        assert_eq!(text(&go_on(&server, name, " and after", 20)), expected);
    }
    server.stop();
    assert_eq!(num_files(folder.path()), names.len());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing outside of the folder");

    // Another model's are left alone.
    let server = Server::with(Options { seed: 1, ..options.clone() });
    assert_eq!(server.health()["sessions"], 0);
    let answer = server.post(&json!({"prompt": "a", "session": "s"}));
    assert_eq!(answer.status, 409);
    assert_eq!(
        answer.message(),
        "session: expected a saved state of this model, got a file that is none; use another name"
    );
    assert_eq!(read(&server, "new", "abc"), 3);
    server.stop();
    let server = Server::with(options);
    assert_eq!(go_on(&server, "s", "", 1)["session_tokens"], 6 + 10 + 20 + 1);
    server.stop();
}

#[test]
fn a_session_that_gave_way_is_read_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::with(in_folder(folder.path(), |limits| limits.max_sessions = 1));
    let expected = server.text("to the folder and back", 12);
    read(&server, "s", "to the folder");
    read(&server, "t", "another");
    assert_eq!((server.health()["sessions"].as_u64(), num_files(folder.path())), (Some(1), 1));
    assert_eq!(text(&go_on(&server, "s", " and back", 12)), expected);
    assert_eq!(read(&server, "t", "!"), 8);
    server.stop();
}

#[test]
fn an_idle_session_goes_to_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let idle = Duration::from_secs(1);
    let server = Server::with(in_folder(folder.path(), |limits| limits.session_idle = idle));
    read(&server, "s", "abc");
    server.wait_for("sessions", 0);
    assert_eq!(read(&server, "s", "d"), 4);
    server.stop();
}

/// A crash loses no more than the last seconds.
#[test]
fn a_quiet_server_saves_what_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::with(in_folder(folder.path(), |_| ()));
    read(&server, "s", "abc");
    read(&server, "t", "abc");
    let start = Instant::now();
    while num_files(folder.path()) < 2 {
        assert!(start.elapsed() < Duration::from_secs(30), "it is not saved");
        sleep(Duration::from_millis(50));
    }
    assert_eq!(server.health()["sessions"], 2);
    server.stop();
}

#[test]
fn the_folder_holds_so_many() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        in_folder(folder.path(), |limits| (limits.max_sessions, limits.max_saved_sessions) = (1, 2));
    let server = Server::with(options);
    for name in ["a", "b", "c", "d"] {
        read(&server, name, "abc");
    }
    assert_eq!(num_files(folder.path()), 2);
    assert_eq!(read(&server, "b", "x"), 4);
    server.stop();
    assert_eq!(num_files(folder.path()), 2);
}

#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = in_folder(folder.path(), |_| ());
    let server = Server::with(options.clone());
    read(&server, "s", "abc");
    server.stop();
    let files = fs::read_dir(folder.path().join("sessions")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|file| file.extension().is_some_and(|e| e == "safetensors")).unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    fs::write(folder.path().join("sessions/notes.txt"), "not ours").unwrap();
    let server = Server::with(options);
    let answer = server.post(&json!({"prompt": "a", "session": "s"}));
    assert_eq!(answer.status, 409);
    assert!(answer.head.contains("x-should-retry: false") && !answer.head.contains("retry-after"));
    server.stop();
    assert_eq!(num_files(folder.path()), 1);
    assert!(folder.path().join("sessions/notes.txt").exists());
}
