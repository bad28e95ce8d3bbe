//! What the user sees: progress on stderr, results on stdout.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the only place where xtask prints")]

use std::io::{IsTerminal, Write, stderr};

/// Writes one line of progress.
pub(crate) fn line(text: &str) {
    eprintln!("{text}");
}

/// Writes the name of the step that begins.
pub(crate) fn headline(text: &str) {
    if is_terminal() {
        eprintln!("\x1b[1m== {text}\x1b[0m");
    } else {
        eprintln!("== {text}");
    }
}

/// Writes a result.
pub(crate) fn result(text: &str) {
    println!("{text}");
}

/// Returns whether progress can be redrawn in place.
pub(crate) fn is_terminal() -> bool {
    stderr().is_terminal()
}

/// Lines at the bottom of the terminal that replace each other.
#[derive(Debug, Default)]
pub(crate) struct Redrawn {
    num_lines: usize,
}

impl Redrawn {
    /// Leaves what is drawn where it is: something else was printed below it.
    pub(crate) fn keep(&mut self) {
        self.num_lines = 0;
    }

    /// Replaces the lines drawn before by these; no line may be wider than the terminal.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        let mut text = String::new();
        if self.num_lines > 0 {
            text += &format!("\x1b[{}A", self.num_lines);
        }
        for line in lines {
            text += &format!("\r\x1b[2K{line}\n");
        }
        // What was longer before is cleared.
        text += "\x1b[0J";
        let _ = stderr().write_all(text.as_bytes());
        self.num_lines = lines.len();
    }
}
