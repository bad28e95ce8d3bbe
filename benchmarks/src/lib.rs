//! Benchmarks live in `benches/`; run them with `cargo bench --package brt-benchmarks`.
