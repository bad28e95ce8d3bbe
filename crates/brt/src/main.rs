//! The `brt` command.
fn main() {}
