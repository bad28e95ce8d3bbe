//! `brt serve` as a user meets it: a real process, a real socket, a real SIGTERM.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::{Place, stderr};
use serde_json::{Value, json};

struct Server {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    address: String,
    /// What it said before it listened.
    start: String,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, stderr, address: String::new(), start: String::new() };
        while server.address.is_empty() {
            let mut line = String::new();
            assert_ne!(server.stderr.read_line(&mut line).unwrap(), 0, "it has ended: {}", server.start);
            server.start += &line;
            if let Some((_, address)) = line.trim().split_once("listening on http://") {
                server.address = address.to_owned();
            }
        }
        server
    }

    fn connect(&self, head: &str, body: &str) -> TcpStream {
        let port = self.address.rsplit(':').next().unwrap();
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             authorization: Bearer secret\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn request(&self, head: &str, body: &str) -> (u16, Value) {
        read(self.connect(head, body))
    }

    fn ask(&self, body: Value) -> Value {
        let (status, answer) = self.request("POST /v1/completions", &body.to_string());
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for the end and returns the exit code and what else was said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // A test that fails leaves none behind.
        let _ = self.child.wait();
    }
}

fn read(mut stream: TcpStream) -> (u16, Value) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["text"].as_str().unwrap()
}

fn trained() -> Place {
    let place = Place::new();
    assert!(place.train("run").status().unwrap().success());
    place
}

/// Starts a server of the run with sessions in a folder.
fn start(place: &Place) -> Server {
    let (run, sessions) = (place.text("run"), place.text("sessions"));
    let listen = ["--listen", "127.0.0.1:0", "--sessions", &sessions, "--threads", "1"];
    Server::start(place.command(&[&["serve", &run][..], &listen, &["--max-tokens", "10000000"]].concat()))
}

fn num_saved(place: &Place) -> usize {
    let names = fs::read_dir(place.path("sessions")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".safetensors")).count()
}

/// Sends both signals while a text that never ends runs in the session.
fn cut_off(server: Server) {
    let long = json!({"prompt": "a", "max_tokens": 10_000_000, "session": "s"}).to_string();
    let running = server.connect("POST /v1/completions", &long);
    let since = Instant::now();
    while server.request("GET /healthz", "").1["running"] != 1 {
        assert!(since.elapsed() < Duration::from_secs(20));
    }
    server.signal("-TERM");
    while server.request("GET /healthz", "").0 != 503 {
        assert!(since.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(5));
    }
    server.signal("-INT");
    let (status, answer) = read(running);
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("shutting_down")));
    assert_eq!(server.end(), (Some(0), String::new()));
}

#[test]
fn a_run_is_served_and_its_sessions_outlast_the_server() {
    let place = trained();
    let run = place.text("run");
    let server = start(&place);
    assert!(server.start.starts_with("serving run: listening on http://127.0.0.1:"), "{}", server.start);
    let ask = |prompt: &str| json!({"model": "run", "prompt": prompt, "temperature": 0, "max_tokens": 20});
    let whole = server.ask(ask("fn main() {"));

    // `brt generate` says the same.
    let generate = ["generate", &run, "--prompt", "fn main() {", "--tokens", "20", "--temperature", "0"];
    let generated = place.brt(&generate);
    assert!(generated.status.success(), "{}", stderr(&generated));
    let generated = String::from_utf8_lossy(&generated.stdout).into_owned();
    assert_eq!(generated.trim_end(), format!("fn main() {{{}", text(&whole)).trim_end());

    let mut first = ask("fn main");
    (first["session"], first["max_tokens"]) = (json!("s"), json!(0));
    assert_eq!(server.ask(first)["session_tokens"], 7);
    cut_off(server);

    let server = start(&place);
    let mut rest = ask("() {");
    rest["session"] = json!("s");
    let answer = server.ask(rest);
    assert_eq!(text(&answer), text(&whole));
    assert_eq!(answer["session_tokens"], 31);
    server.signal("-TERM");
    assert_eq!(server.end().0, Some(0));
    assert_eq!(num_saved(&place), 1);
}

/// Also where the terminal is closed, or says to quit.
#[test]
fn every_signal_to_stop_saves_the_sessions() {
    let place = trained();
    // Who ignores a hangup, as `nohup` does, hands that on.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0").trim();
    let signals: &[&str] =
        if u64::from_str_radix(ignored, 16).unwrap() & 1 == 0 { &["-HUP", "-QUIT"] } else { &["-QUIT"] };
    for (idx, signal) in signals.iter().enumerate() {
        let server = start(&place);
        server.ask(json!({"prompt": "abc", "max_tokens": 0, "session": signal}));
        let second = place.brt(&["serve", &place.text("run"), "--sessions", &place.text("sessions")]);
        let in_use = ": expected a folder that no other server uses, got one that is in use";
        assert!(stderr(&second).contains(in_use), "{}", stderr(&second));
        server.signal(signal);
        assert_eq!(server.end(), (Some(0), String::new()));
        assert_eq!(num_saved(&place), idx + 1);
    }
}

#[test]
fn a_key_comes_from_a_file_or_the_environment() {
    let place = trained();
    let run = place.text("run");
    fs::write(place.path("key"), "other\n").unwrap();
    let file = place.text("key");
    let serve = |arguments: &[&str], key: Option<&str>| {
        let mut command =
            place.command(&[&["serve", &run, "--threads", "1", "--listen"], arguments].concat());
        command.envs(key.map(|key| ("BRT_API_KEY", key)));
        let server = Server::start(command);
        let (status, answer) = server.request("POST /v1/completions", r#"{"prompt": "a"}"#);
        let (health, _) = server.request("GET /healthz", "");
        server.signal("-TERM");
        assert_eq!(
            (health, server.start.contains("warning: --listen")),
            (200, key.is_none() && arguments.len() == 1)
        );
        assert_eq!(server.end().0, Some(0));
        (status, answer["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(serve(&["127.0.0.1:0"], Some("secret")), (200, String::new()));
    let wrong = "authorization: expected `Bearer` and the key of this server, got another key";
    assert_eq!(serve(&["127.0.0.1:0", "--api-key-file", &file], Some("secret")), (401, wrong.into()));
    assert_eq!(serve(&["0.0.0.0:0"], None), (200, String::new()));
}

#[test]
fn mistakes_are_told_before_anything_is_served() {
    let place = trained();
    let run = place.text("run");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    fs::write(place.path("file"), "").unwrap();
    let [none, file] = ["none", "file"].map(|name| place.text(name));
    let cases: [(&[&str], &str); 7] = [
        (&["--listen", &taken], "cannot listen on 127.0.0.1:"),
        (&["--api-key-file", &none], "/none: No such file"),
        (&["--api-key-file", &file], "API key: expected 1 to 1024 visible ASCII characters, got none"),
        (&["--sessions", &file], "/file: cannot keep sessions there: "),
        (&["--max-running", "0"], "'--max-running <N>': expected a number from 1 to "),
        (&["--request-secs", "many"], "expected a number of seconds from 1 to "),
        (&["--listen", "localhost"], "invalid socket address"),
    ];
    for (arguments, expected) in cases {
        let output: Output = place.brt(&[&["serve", &run], arguments].concat());
        assert!(!output.status.success(), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
}
