//! What happens between the worker and a client in the same process.

use std::time::{Duration, Instant};

use brt_data::Tokenizer;
use brt_lm::LanguageModel;
use brt_serve::{CompletionRequest, Limits, RequestError, Worker, WorkerConfig};

use crate::common::model;

fn worker(model: LanguageModel) -> Worker {
    let limits = Limits { max_tokens: 1_000_000, ..Limits::default() };
    let config = WorkerConfig { name: "tiny".into(), limits, sessions: None };
    Worker::start(model, Tokenizer::t5_bytes(), config).unwrap()
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(test);
}

fn in_session(prompt: &str, max_tokens: usize) -> CompletionRequest {
    CompletionRequest { max_tokens, session: Some("s".into()), ..CompletionRequest::new(prompt) }
}

/// All is drawn, but the client leaves before it has the last piece.
#[test]
fn a_session_stays_where_its_client_has_not_read_all() {
    run(async {
        let worker = worker(model(0));
        let read = async |prompt: &str| worker.complete(in_session(prompt, 0)).await.unwrap().session_tokens;
        assert_eq!(read("abc").await, Some(3));
        let mut stream = worker.stream(in_session("more", 8)).await.unwrap();
        assert!(stream.next().await.unwrap().is_some());
        let start = Instant::now();
        while worker.load().running > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "it still runs");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let busy = worker.complete(in_session("d", 0)).await.unwrap_err();
        assert_eq!(busy, RequestError::SessionBusy { name: "s".into() });
        drop(stream);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(read("d").await, Some(4));
        // Who has read all may ask the next at once.
        for round in 1..=20 {
            let mut stream = worker.stream(in_session("", 2)).await.unwrap();
            while stream.next().await.unwrap().is_some() {}
            assert_eq!(stream.end().session_tokens, Some(4 + 2 * round));
        }
    });
}

/// Although there was no room for another word when the worker stopped.
#[test]
fn who_has_not_read_yet_reads_why_there_is_no_more() {
    run(async {
        let worker = worker(model(0));
        let mut stream = worker.stream(in_session("a", 1_000_000)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let ending = worker.clone();
        tokio::task::spawn_blocking(move || ending.stop()).await.unwrap().unwrap();
        let error = loop {
            match stream.next().await {
                Ok(piece) => assert!(piece.is_some()),
                Err(error) => break error,
            }
        };
        assert_eq!(error, RequestError::Stopping);
        assert_eq!(worker.complete(in_session("a", 1)).await.unwrap_err(), RequestError::Stopping);
    });
}

/// All choices of a request share its line: none is heard of only when the others have ended.
#[test]
fn a_slow_reader_hears_of_all_choices() {
    run(async {
        let worker = worker(model(0));
        let request = CompletionRequest { n: 4, max_tokens: 1_000_000, ..CompletionRequest::new("a") };
        let mut stream = worker.stream(request).await.unwrap();
        let mut num_heard = [0; 4];
        for _ in 0..800 {
            num_heard[stream.next().await.unwrap().unwrap().choices[0].index] += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(num_heard.iter().all(|&num| num > 80), "{num_heard:?}");
    });
}

#[test]
fn a_model_that_computes_no_numbers_says_so() {
    run(async {
        let broken = model(0);
        for (_, mut parameter) in broken.params().named() {
            let _ = tch::no_grad(|| parameter.g_mul_scalar_(f64::NAN));
        }
        let worker = worker(broken);
        let plain = CompletionRequest::new("abc");
        let scored = CompletionRequest { echo: true, logprobs: Some(1), max_tokens: 0, ..plain.clone() };
        for request in [plain, scored, in_session("abc", 0)] {
            let error = worker.complete(request).await.unwrap_err();
            assert_eq!((error.status(), &error), ((500, "not_finite"), &RequestError::NotFinite));
        }
        let start = Instant::now();
        while (worker.load().running, worker.load().sessions) != (0, 0) {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", worker.load());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let expected =
            "model: expected finite numbers, got others; its weights or the session's state may be damaged";
        assert_eq!(RequestError::NotFinite.to_string(), expected);
    });
}
