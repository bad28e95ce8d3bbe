//! A connection that is given up when its client takes nothing for too long.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// A stream whose writes fail where the other side reads nothing for a time, or does not get an answer to its end.
#[derive(Debug)]
pub(crate) struct Timed {
    stream: TcpStream,
    stall_time: Duration,
    answer_time: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Runs from the first byte of an answer until the next request.
    answering: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    pub(crate) fn new(stream: TcpStream, stall_time: Duration, answer_time: Duration) -> Self {
        Self { stream, stall_time, answer_time, waiting: None, answering: None }
    }

    fn timed<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let (stall_time, answer_time) = (self.stall_time, self.answer_time);
        let answering = self.answering.get_or_insert_with(|| Box::pin(sleep(answer_time)));
        if poll.is_ready() {
            self.waiting = None;
            return poll;
        }
        if answering.as_mut().poll(cx).is_pending() {
            ready!(self.waiting.get_or_insert_with(|| Box::pin(sleep(stall_time))).as_mut().poll(cx));
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.answering = None;
        }
        poll
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.timed(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn a_reader_that_takes_a_little_now_and_then_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (stall_time, answer_time) = (Duration::from_secs(60), Duration::from_millis(500));
        let mut timed = Timed::new(stream, stall_time, answer_time);
        tokio::spawn(async move {
            let mut piece = [0; 20_000];
            while client.read(&mut piece).await.is_ok_and(|len| len > 0) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        let write = async {
            loop {
                if let Err(error) = timed.write_all(&[0; 60_000]).await {
                    return error.kind();
                }
            }
        };
        let given_up = timeout(Duration::from_secs(30), write).await;
        assert_eq!(given_up, Ok(io::ErrorKind::TimedOut));
    }
}
