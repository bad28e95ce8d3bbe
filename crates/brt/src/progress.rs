//! How far long work is: a bar on a terminal, else a line now and then.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{count, line};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress of work that is measured in bytes.
pub(crate) struct BytesBar {
    what: &'static str,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl BytesBar {
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{bar:32} {bytes} of {total_bytes}  {bytes_per_sec}  {msg}  {elapsed}, {eta} left";
            let style = ProgressStyle::with_template(template).expect("a valid template");
            ProgressBar::new(0).with_style(style)
        });
        Self { what, bar, last_line: Instant::now() }
    }

    pub(crate) fn show(&mut self, bytes: u64, total: u64, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(bytes);
            bar.set_message(text.to_owned());
        } else if self.last_line.elapsed() >= LINE_EVERY {
            let part = 100. * bytes as f64 / total.max(1) as f64;
            let text = if text.is_empty() { String::new() } else { format!(", {text}") };
            line(format!("{}: {} of {} bytes ({part:.0} %){text}", self.what, count(bytes), count(total)));
            self.last_line = Instant::now();
        }
    }

    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
