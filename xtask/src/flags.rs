//! All flags of all sub-commands, declared in one place.

xflags::xflags! {
    /// Automation of this repository. In a fresh clone, `cargo xtask compare` and `cargo xtask test` need nothing else.
    cmd xtask {
        /// Find libtorch, or download it (0.55 GB down, 0.5 GB kept), and put it at `.libtorch` for cargo.
        ///
        /// Looks at LIBTORCH_USE_PYTORCH, LIBTORCH and the PyTorch of the active python3, in this order.
        cmd setup {
            /// Look again, and download again, even where `.libtorch` is whole; with --nccl, the headers.
            optional --force
            /// Put the headers of CUDA and NCCL at `.nccl`, too (0.2 GB down, 20 MB kept): brt is then built for training on
            /// several GPUs.
            optional --nccl
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
            /// The text, as `brt data prepare --corpus` takes it. Default: code.
            optional --corpus corpus: String
            /// Folder of a prepared corpus, instead; its tokenizer must be bytes, or the configurations of its size.
            optional --data data: PathBuf
            /// Number of seeds per contestant. Default: 1.
            optional --seeds seeds: u64
            /// Names of configurations, separated by commas. Default: xl,slide,rec_fixed_skip.
            /// Differences are taken from `slide`, or from the first where that is not among them.
            optional --contestants contestants: String
            /// Folder of the configurations. Default: benchmarks/configs/compare.
            optional --configs configs: PathBuf
            /// Folder of the runs and the report. Default: runs/compare-CORPUS,
            /// or runs/compare-CORPUS-Mmin with --minutes.
            optional --out out: PathBuf
            /// Number of runs at a time. Default: as many as there are processors.
            optional --jobs jobs: usize
        }
        /// Train every row of the paper's tables and report which of its conclusions hold.
        ///
        /// The same command goes on where it was interrupted, and makes what is missing; the report is written after
        /// every run. BRT_BIN names another `brt` program to use.
        cmd tables {
            /// `laptop`, a size for two cores, or `paper`, the full size. Default: laptop.
            optional --preset preset: String
            /// Folder of configurations with a tables.toml of your own, instead.
            optional --configs configs: PathBuf
            /// The text, as `brt data prepare --corpus` takes it. Default: code.
            optional --corpus corpus: String
            /// Folder of a prepared corpus, instead.
            optional --data data: PathBuf
            /// Names of tables or rows, separated by commas; only these rows are trained. Default: all tables.
            optional --only only: String
            /// Seeds of every row. Default: one, and for the rows of the headline as many as tables.toml says.
            optional --seeds seeds: u64
            /// What each row may cost: tokens (4M, 500k), equal for all, or minutes (10min).
            /// Default: as tables.toml says, else as the configurations say.
            optional --budget budget: String
            /// Devices, separated by commas; each has one run at a time, the processors are divided among them.
            /// `cpu,cpu` are two runs at a time. Default: one run at a time, where brt finds best.
            optional --devices devices: String
            /// Time steps with one of so many parts of the batch, where whole ones are too much for the machine.
            optional --parts parts: u64
            /// Measure a few steps, print what everything takes in time and disk, and train nothing.
            optional --dry-run
            /// Write the report of what is there again, and make nothing.
            optional --report
            /// Folder of runs and report. Default: runs/tables-PRESET-CORPUS.
            optional --out out: PathBuf
        }
        /// Compare with the numbers of the paper's official code, file by file.
        cmd golden {
            /// Folder of golden files. Default: crates/brt-golden/golden.
            optional --dir dir: PathBuf
        }
        /// Measure what this machine can do, and how much of it the parts of training steps and whole steps reach.
        cmd bench {
            /// Configuration files, separated by commas; parts have the sizes of the first one. Default: benchmarks/peers/a.toml
            /// and a_slide.toml.
            optional --configs configs: String
            /// The paper's Rec:fixed:skip, Slide:13L and XL:2048 at full size with one row, instead.
            optional --paper
            /// Times that everything is measured, in turn. Default: 7.
            optional --rounds rounds: u64
            /// Threads of tensor operations. Default: 1.
            optional --threads threads: usize
            /// cpu or cuda:N. Default: the first GPU where there is one.
            optional --device device: String
            /// Folder of bench.json. Default: runs/bench.
            optional --out out: PathBuf
        }
        /// Measure brt beside plain PyTorch and the popular port, step by step in turn. Installs them (5 GB) once.
        cmd peers {
            /// Configurations in benchmarks/peers, or files, separated by commas. Default: a,b.
            optional --configs configs: String
            /// Some of brt,plain,port. Default: all.
            optional --contestants contestants: String
            /// Training steps of each, in turn, after one that is not counted. Default: 5.
            optional --rounds rounds: u64
            /// Threads of each. Default: 1.
            optional --threads threads: usize
            /// cpu or cuda:N. Default: cpu.
            optional --device device: String
            /// File of tokens, a byte each. Default: the sources of this repository.
            optional --tokens tokens: PathBuf
            /// Tokens of the prompt. Default: 1024.
            optional --prompt-len prompt_len: usize
            /// Tokens to generate. Default: 256.
            optional --generate generate: usize
            /// Measure training alone.
            optional --no-generation
            /// Also generate as the port documents it: slow.
            optional --documented
            /// A Python that has the peers; nothing is then installed.
            optional --python python: PathBuf
            /// Folder of the tables and raw numbers. Default: runs/peers.
            optional --out out: PathBuf
        }
        /// Serve the model of a run, and let clients that others wrote check it: the `openai` package and `lm-eval`. Installs
        /// them (1 GB) once.
        cmd clients {
            /// Folder of the run.
            required --model model: PathBuf
            /// Text that lm-eval scores: UTF-8, best one that the model has not read.
            required --text text: PathBuf
            /// Documents that are cut out of the text. Default: 20.
            optional --documents documents: u64
            /// Threads of the server. Default: one per core.
            optional --threads threads: usize
            /// A Python that has the clients; nothing is then installed.
            optional --python python: PathBuf
            /// Folder of what they print. Default: runs/clients.
            optional --out out: PathBuf
        }
        /// Check everything: format, lints, docs, a one-minute comparison, doctests, tests.
        cmd test {}
        /// `test`, and the licences and sources of all dependencies where cargo-deny is installed.
        cmd ci {}
    }
}

use std::path::PathBuf;
