//! What a machine can do, and how much of it models reach.
//!
//! [`bench()`] measures ceilings (matrix products, copies), the parts of a training step and whole steps, in turn in one
//! process; [`stream()`] what a token costs in a long text; a [`Contestant`] steps and generates on command, beside models of other programs.
//! Formulas of all counts: `docs/performance.md`.
#![deny(missing_docs)]

mod ceilings;
mod contestant;
mod decode;
mod item;
mod measure;
mod parts;
mod steps;
mod stream;

pub use contestant::{Contestant, ContestantError, ContestantOptions, Generated, Stepped};
pub use measure::{BenchPlan, Extent, bench};
pub use stream::stream;
