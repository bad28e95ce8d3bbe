//! Trains, evaluates and resumes the language models of brt-lm.
#![deny(missing_docs)]
