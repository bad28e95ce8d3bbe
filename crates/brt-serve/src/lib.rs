//! HTTP completions from a language model that keeps its state.
#![deny(missing_docs)]
