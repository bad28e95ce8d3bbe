//! What the user sees.

use std::{
    io::{ErrorKind, Write},
    process::{ExitCode, exit},
};

/// Prints a line for people to standard error. Where that cannot be written (a full disk, a reader that has gone) the work
/// goes on without.
pub(crate) fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a result to standard output. A reader that has seen enough (`| head`) ends the program quietly.
pub(crate) fn result(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        if error.kind() != ErrorKind::BrokenPipe {
            line(format!("error: standard output: {error}"));
        }
        exit(1);
    }
}

/// Prints a part of a text to standard output, at once; returns whether somebody still reads.
pub(crate) fn text(piece: &str) -> bool {
    let mut out = std::io::stdout();
    let written = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written.as_ref()
        && error.kind() != ErrorKind::BrokenPipe
    {
        line(format!("error: standard output: {error}"));
    }
    written.is_ok()
}

/// Makes a panic one line: what was broken, and where. Users' mistakes are errors, found before; what is left is a
/// defect of this program, or a machine without enough memory.
pub(crate) fn short_panics() {
    std::panic::set_hook(Box::new(|panic| {
        // The parquet crate panics on some damaged files; brt-data makes errors of that.
        if panic.location().is_some_and(|location| location.file().contains("/parquet-")) {
            return;
        }
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("unknown");
        // libtorch's own errors come quoted, with the trace of its functions.
        let first = text.lines().next().unwrap_or(text).split("\\n").next().unwrap_or(text);
        let place = panic.location().map(|l| format!(" ({}:{})", l.file(), l.line())).unwrap_or_default();
        let advice = match text.contains("allocate memory")
            || text.contains("alloc_cpu")
            || text.contains("out of memory")
        {
            true => "not enough memory? lower data.batch or the sizes of the model: ",
            false => "a defect of brt, please report it: ",
        };
        line(format!("error: {advice}{first}{place}"));
    }));
}

/// Prints an error with its causes on one line and returns the code of failure.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    // A cause that the message above it already quotes is not said twice.
    let mut message = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    line(format!("error: {message}"));
    ExitCode::FAILURE
}

/// Formats a count for people: 12.3M, 45.6k.
pub(crate) fn count(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{:.1}k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", n as f64 / 1e6),
        _ => format!("{:.2}G", n as f64 / 1e9),
    }
}

/// Formats a count exactly: 12,345,678.
pub(crate) fn exact(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    let groups =
        digits.as_bytes()[first..].chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let groups: Vec<String> =
        Some(digits[..first].to_string()).into_iter().filter(|g| !g.is_empty()).chain(groups).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_counts() {
        assert_eq!(
            [7, 123, 1234, 123_456, 7_654_321].map(exact),
            ["7", "123", "1,234", "123,456", "7,654,321"]
        );
    }

    #[test]
    fn counts() {
        assert_eq!([7, 12_345, 3_400_000, 5_000_000_000].map(count), ["7", "12.3k", "3.4M", "5.00G"]);
    }
}
