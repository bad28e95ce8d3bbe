//! All flags of all sub-commands, declared in one place.

xflags::xflags! {
    /// Automation of this repository. In a fresh clone, `cargo xtask compare` and `cargo xtask test` need nothing else.
    cmd xtask {
        /// Find libtorch, or download it (0.55 GB down, 0.5 GB kept), and put it at `.libtorch` for cargo.
        ///
        /// Looks at LIBTORCH, LIBTORCH_USE_PYTORCH and the PyTorch of the active python3, in this order.
        cmd setup {
            /// Look again, and download again, even where `.libtorch` is whole.
            optional --force
        }
        /// Train the contestants on real text and report which one predicts better.
        ///
        /// The same command resumes what was interrupted. BRT_BIN names another `brt` program to use; nothing is
        /// then set up or built.
        cmd compare {
            /// Choose the number of training steps so that all runs take about this long together.
            /// Below 32 minutes less of each held-out document is scored. Without this flag the configurations
            /// decide, and the result can be reproduced.
            optional --minutes minutes: f64
            /// The text: `code`, `books` or `folder:PATH`. Default: code.
            optional --corpus corpus: String
            /// Number of seeds per contestant. Default: 1.
            optional --seeds seeds: u64
            /// Names of configurations, separated by commas. Default: xl,slide,rec_fixed_skip.
            /// Differences are taken from `slide`, or from the first where that is not among them.
            optional --contestants contestants: String
            /// Folder of the configurations. Default: benchmarks/configs/laptop.
            optional --configs configs: PathBuf
            /// Folder of the runs and the report. Default: runs/compare-CORPUS,
            /// or runs/compare-CORPUS-Mmin with --minutes.
            optional --out out: PathBuf
            /// Number of runs at a time. Default: as many as there are processors.
            optional --jobs jobs: usize
        }
        /// Compare with the numbers of the paper's official code, file by file.
        cmd golden {
            /// Folder of golden files. Default: crates/brt-golden/golden.
            optional --dir dir: PathBuf
        }
        /// Check everything: format, lints, docs, a one-minute comparison, doctests, tests.
        cmd test {}
        /// `test`, and the licences and sources of all dependencies where cargo-deny is installed.
        cmd ci {}
    }
}

use std::path::PathBuf;
