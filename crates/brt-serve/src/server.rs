//! Connections: accepted up to a limit, given up where they are too slow, drained where the server stops.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};

use crate::{ApiKey, RequestError, ServeError, Worker, http::Timed, router};

/// Longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Connections over the limit that are told so at once; others are closed without a word.
const MAX_REFUSING: usize = 64;
/// How long connections may take to close after the last answer.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Serves completions at `address` until SIGINT, SIGTERM, SIGQUIT or SIGHUP (unless that is ignored, as under `nohup`).
/// `ready` is told the address once it is listened to.
///
/// The first signal lets running requests end, for [`crate::Limits::shutdown_time`] at most; the second ends them at once.
/// Both save the sessions.
///
/// # Errors
/// The system's reason where the address cannot be listened to; a worker that has failed; sessions that could not be saved.
pub fn serve(
    worker: Worker,
    key: Option<ApiKey>,
    address: SocketAddr,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Runtime::new().map_err(|source| ServeError::Start { source })?;
    runtime.block_on(async {
        let error = |source| ServeError::Listen { address: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(error)?;
        let stop = signals().map_err(|source| ServeError::Start { source })?;
        ready(listener.local_addr().map_err(error)?);
        serve_on(listener, worker, key, stop).await
    })
}

/// Serves completions to a listener's connections until `stop` says so; a second time cuts off what still runs.
///
/// # Errors
/// A worker that has failed; sessions that could not be saved.
pub async fn serve_on(
    listener: TcpListener,
    worker: Worker,
    key: Option<ApiKey>,
    mut stop: mpsc::Receiver<()>,
) -> Result<(), ServeError> {
    let connections = Connections::new(&worker, key);
    let mut stopped = pin!(drained(&worker, &mut stop));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connections.start(stream),
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(Duration::from_millis(50)).await; // The limit of open files lasts a while.
                }
            },
            () = &mut stopped => break,
        }
    }
    drop(listener);
    let ending = worker.clone();
    let ended = tokio::task::spawn_blocking(move || ending.stop()).await;
    connections.close().await;
    ended.unwrap_or(Err(ServeError::WorkerEnded))
}

/// Returns when nothing is left to do after the first stop, at the second, or when the worker has ended.
async fn drained(worker: &Worker, stop: &mut mpsc::Receiver<()>) {
    tokio::select! {
        () = stopping(stop) => worker.refuse(),
        () = worker.ended() => return,
    }
    let done = async {
        while worker.load().requests > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = done => (),
        () = sleep(worker.limits().shutdown_time) => (),
        () = stopping(stop) => (),
        () = worker.ended() => (),
    }
}

async fn stopping(stop: &mut mpsc::Receiver<()>) {
    if stop.recv().await.is_none() {
        std::future::pending().await // Nobody is left who could stop it.
    }
}

/// Returns a message for each signal to stop.
fn signals() -> io::Result<mpsc::Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (send, receive) = mpsc::channel(2);
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit()];
    kinds.extend((!is_hangup_ignored()).then(SignalKind::hangup));
    for kind in kinds {
        let (mut signals, send) = (signal(kind)?, send.clone());
        tokio::spawn(async move { while signals.recv().await.is_some() && send.send(()).await.is_ok() {} });
    }
    Ok(receive)
}

/// Returns whether the process was started to outlive its terminal. Only Linux says.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

/// The open connections.
struct Connections {
    app: Router,
    http: http1::Builder,
    stall_time: Duration,
    answer_time: Duration,
    max: usize,
    free: Arc<Semaphore>,
    refusing: Arc<Semaphore>,
    graceful: GracefulShutdown,
}

impl Connections {
    fn new(worker: &Worker, key: Option<ApiKey>) -> Self {
        let limits = worker.limits();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.head_time).max_buf_size(MAX_HEAD_BYTES);
        Self {
            app: router(worker.clone(), key),
            http,
            stall_time: limits.stall_time,
            answer_time: limits.request_time + limits.stall_time,
            max: limits.max_connections,
            free: Arc::new(Semaphore::new(limits.max_connections)),
            refusing: Arc::new(Semaphore::new(MAX_REFUSING)),
            graceful: GracefulShutdown::new(),
        }
    }

    fn start(&self, stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            if let Ok(permit) = Arc::clone(&self.refusing).try_acquire_owned() {
                let refusal = timeout(CLOSE_TIME, refuse(stream, self.max));
                tokio::spawn(async move {
                    let _ = refusal.await; // It may have gone.
                    drop(permit);
                });
            }
            return;
        };
        let _ = stream.set_nodelay(true); // A piece of an answer is worth a packet.
        let io = TokioIo::new(Timed::new(stream, self.stall_time, self.answer_time));
        let connection = self.http.serve_connection(io, TowerToHyperService::new(self.app.clone()));
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("connection: {error}");
            }
            drop(permit);
        });
    }

    async fn close(self) {
        let _ = timeout(CLOSE_TIME, self.graceful.shutdown()).await; // Who reads too slowly does not get the rest.
    }
}

/// Tells a client that there are too many. What it says is read, for a while: else it may not see the answer.
async fn refuse(mut stream: TcpStream, max: usize) -> io::Result<()> {
    let body = RequestError::TooManyConnections { max }.body().to_string();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
