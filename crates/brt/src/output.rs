//! What the user sees.

use std::process::ExitCode;

/// Prints a line for people to standard error.
#[expect(clippy::print_stderr, reason = "the one place where the program speaks")]
pub(crate) fn line(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// Prints a result to standard output.
#[expect(clippy::print_stdout, reason = "the one place where the program prints results")]
pub(crate) fn result(text: impl std::fmt::Display) {
    println!("{text}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        assert_eq!([7, 12_345, 3_400_000, 5_000_000_000].map(count), ["7", "12.3k", "3.4M", "5.00G"]);
    }
}
