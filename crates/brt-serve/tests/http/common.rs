//! A server of a small recurrent model in the background, and a client that can misbehave.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use brt_data::{TextPlace, Tokenizer};
use brt_lm::{CellLayout, Gate, LanguageModel, LogitDivisor, ModelConfig, RecurrenceConfig};
use brt_serve::{ApiKey, Limits, ServeError, Worker, WorkerConfig, serve_on};
use serde_json::{Value, json};
use tch::Device;
use tokio::sync::mpsc;

/// The model of all tests. Models of one seed are equal.
pub(crate) fn model(seed: u64) -> LanguageModel {
    let config = ModelConfig {
        vocab_size: 260,
        model_dim: 16,
        num_layers: 2,
        num_heads: 2,
        head_dim: 8,
        ffn_dim: 32,
        window_len: 4,
        logit_divisor: LogitDivisor::SqrtModelDim,
        dropout: 0.,
        attention_dropout: 0.,
        recurrence: Some(RecurrenceConfig::new(vec![0], Gate::Fixed, CellLayout::Skip, 3)),
        ..ModelConfig::paper()
    };
    let model = LanguageModel::new(config, seed, Device::Cpu).unwrap();
    // An untrained model says the last token again and again; one with large weights has a text that depends on all.
    for (name, mut parameter) in model.params().named() {
        if !name.contains("embedding") {
            let _ = tch::no_grad(|| parameter.g_mul_scalar_(4.));
        }
    }
    model
}

pub(crate) fn tokens(text: &str) -> Vec<i64> {
    let encoding = Tokenizer::t5_bytes().encode(text.as_bytes(), TextPlace::Start).unwrap();
    encoding.tokens.into_iter().map(i64::from).collect()
}

/// How a server is started.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) limits: Limits,
    pub(crate) key: Option<&'static str>,
    pub(crate) sessions: Option<PathBuf>,
    pub(crate) seed: u64,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn limited(change: impl FnOnce(&mut Limits)) -> Self {
        let mut options = Options::default();
        change(&mut options.limits);
        Self::with(options)
    }

    pub(crate) fn with(options: Options) -> Self {
        let (address, ready) = std::sync::mpsc::channel();
        let (stop, stopped) = mpsc::channel(2);
        let config = WorkerConfig { name: "tiny".into(), limits: options.limits, sessions: options.sessions };
        let worker = Worker::start(model(options.seed), Tokenizer::t5_bytes(), config).unwrap();
        let key = options.key.map(|key| ApiKey::new(key).unwrap());
        let thread = thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                address.send(listener.local_addr().unwrap()).unwrap();
                serve_on(listener, worker, key, stopped).await
            })
        });
        Self { address: ready.recv().unwrap(), stop, thread }
    }

    /// Does what the first signal does, or the second.
    pub(crate) fn signal(&self) {
        self.stop.blocking_send(()).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn join(self) {
        self.thread.join().unwrap().unwrap();
    }

    pub(crate) fn stop(self) {
        self.signal();
        self.join();
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends a request of completions and leaves its answer to be read.
    pub(crate) fn send(&self, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(head_and_body("POST /v1/completions", "", &body.to_string()).as_bytes()).unwrap();
        stream
    }

    pub(crate) fn post(&self, body: &Value) -> Answer {
        Answer::read(self.send(body))
    }

    pub(crate) fn request(&self, line: &str, headers: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(head_and_body(line, headers, body).as_bytes()).unwrap();
        Answer::read(stream)
    }

    /// Returns the answer to a request that must succeed.
    pub(crate) fn ask(&self, body: Value) -> Value {
        let answer = self.post(&body);
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
        answer.json()
    }

    /// Returns the text of the only choice, drawn greedily.
    pub(crate) fn text(&self, prompt: &str, max_tokens: usize) -> String {
        let body = json!({"prompt": prompt, "max_tokens": max_tokens, "temperature": 0});
        text(&self.ask(body)).to_owned()
    }

    pub(crate) fn health(&self) -> Value {
        self.request("GET /healthz", "", "").json()
    }

    /// Waits until the server's numbers are as they should be.
    pub(crate) fn wait_for(&self, name: &str, expected: u64) {
        let start = Instant::now();
        while self.health()[name] != expected {
            assert!(start.elapsed() < Duration::from_secs(20), "{name}: {}", self.health());
            sleep(Duration::from_millis(5));
        }
    }
}

fn head_and_body(line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n{headers}\r\n{body}"
    )
}

/// Returns two characters that come in a text, but not at its beginning, and where.
pub(crate) fn stop_in(text: &str) -> (String, usize) {
    let chars: Vec<char> = text.chars().collect();
    let pairs = chars.windows(2).map(|pair| pair.iter().collect::<String>());
    let mut places = pairs.map(|pair| (text.find(&pair).unwrap(), pair));
    let (cut, stop) =
        places.find(|(cut, _)| *cut > 4).unwrap_or_else(|| panic!("too little variety: {text}"));
    (stop, cut)
}

/// Returns the text of the first choice.
pub(crate) fn text(answer: &Value) -> &str {
    answer["choices"][0]["text"].as_str().unwrap()
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut bytes = vec![];
        stream.read_to_end(&mut bytes).unwrap();
        Self::new(&bytes)
    }

    fn new(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n").expect("the end of a head");
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let mut body = bytes[end + 4..].to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = dechunk(&body);
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: String::from_utf8(body).unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the message of an error, whose body must have all that the protocol says.
    pub(crate) fn message(&self) -> String {
        let error = &self.json()["error"];
        assert!(error["type"].is_string() && error["code"].is_string(), "{error}");
        assert!(error["param"].is_string() || error["param"].is_null(), "{error}");
        error["message"].as_str().unwrap().to_owned()
    }

    /// Returns the events of a stream and whether it has ended as it should.
    pub(crate) fn events(&self) -> (Vec<Value>, bool) {
        let events: Vec<&str> =
            self.body.split_terminator("\n\n").filter(|event| !event.starts_with(':')).collect();
        let data: Vec<&str> = events.iter().map(|event| event.strip_prefix("data: ").unwrap()).collect();
        let is_done = data.last() == Some(&"[DONE]");
        let pieces = &data[..data.len() - usize::from(is_done)];
        (pieces.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect(), is_done)
    }
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = vec![];
    while let Some(end) = rest.windows(2).position(|part| part == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[end + 2..][..size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body
}
