//! `brt data`: from documents to shards of tokens.

use std::path::Path;

use anyhow::{Context, Result, bail};
use brt_data::{
    CorpusSource, Job, Manifest, PrepareConfig, SourceConfig, Split, SplitStatistics, Tokenizer, merge,
    prepare_with, train_tokenizer, verify,
};

use crate::{
    arguments::{DataCommand, JobArgument, PrepareArguments, SourceArguments, TrainTokenizerArguments},
    output::{count, exact, line, result},
    progress::BytesBar,
};

/// Number of near copies that are printed.
const MAX_SHOWN: usize = 10;

pub(super) fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Prepare(arguments) => prepare(arguments),
        DataCommand::Merge { parts, out } => {
            let parts: Vec<&Path> = parts.iter().map(|part| part.as_path()).collect();
            let mut bar = BytesBar::new("merging");
            let manifest = merge(&parts, &out, &mut |read, total| bar.show(read, total, ""))?;
            bar.finish();
            print(&manifest);
            Ok(())
        }
        DataCommand::Verify { folder } => {
            let mut bar = BytesBar::new("verifying");
            let manifest = verify(&folder, &mut |read, total| bar.show(read, total, ""))?;
            bar.finish();
            let (bytes, shards) = (exact(manifest.file_bytes()), manifest.shards.len());
            result(format!("{}: {bytes} bytes in {shards} shard(s), all as written", folder.display()));
            Ok(())
        }
        DataCommand::Inspect { folder, excerpts } => {
            print(&Manifest::read(&folder)?);
            Split::ALL.into_iter().try_for_each(|split| print_split(&folder, split, excerpts))
        }
        DataCommand::TrainTokenizer(arguments) => train(arguments),
    }
}

fn prepare(arguments: PrepareArguments) -> Result<()> {
    let PrepareArguments { source, out, tokenizer, shard, shard_bytes } = arguments;
    let job = shard.map(|JobArgument(job)| job);
    let config =
        PrepareConfig { tokenizer: Tokenizer::open(&tokenizer)?, job, shard_bytes, ..config(source)? };
    let mut bar = BytesBar::new("reading");
    let manifest = prepare_with(&config, &out, &mut |progress| {
        let text = format!(
            "{} documents, {} tokens",
            count(progress.counts.num_documents),
            count(progress.counts.num_tokens)
        );
        bar.show(progress.bytes_read, progress.bytes_total, &text);
    })?;
    bar.finish();
    print(&manifest);
    if let Some(Job { idx, count }) = job {
        line(format!("part {idx} of {count} is whole; brt data merge joins the parts"));
    }
    Ok(())
}

fn train(arguments: TrainTokenizerArguments) -> Result<()> {
    let config = config(arguments.source)?;
    line("training; when all is read, this takes about a second for each megabyte of text");
    let mut bar = BytesBar::new("reading");
    let mut show = |read, total| bar.show(read, total, "");
    let tokenizer = train_tokenizer(&config, arguments.vocab_size, arguments.max_bytes, &mut show)?;
    bar.finish();
    brt_report::write_atomic(&arguments.out, tokenizer.file_contents())?;
    result(format!(
        "{}: {} tokens, sha256 {}",
        arguments.out.display(),
        tokenizer.vocab_size(),
        tokenizer.sha256()
    ));
    Ok(())
}

/// Sets the number of threads and returns what the arguments say of the source.
fn config(arguments: SourceArguments) -> Result<PrepareConfig> {
    set_threads(arguments.threads)?;
    let (validation, test) = (arguments.validation, arguments.test);
    let (licence, origin) = (arguments.licence.clone(), arguments.origin.clone());
    let source = match arguments.corpus.clone() {
        CorpusSource::Files(files) => CorpusSource::Files(with_options(files, arguments)),
        CorpusSource::Pg19(files) => CorpusSource::Pg19(with_options(files, arguments)),
        named if !has_options(&arguments) => named,
        named => {
            bail!(
                "--corpus {named}: expected no options of columns, errors, splits or licence, got some; they are for \
                 files, leave them out"
            )
        }
    };
    let defaults = PrepareConfig::new(source);
    let (validation, test) = (validation.unwrap_or(defaults.validation), test.unwrap_or(defaults.test));
    Ok(PrepareConfig { validation, test, licence, origin, ..defaults })
}

fn set_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.with_context(|| format!("--threads {threads}"))
}

/// Returns whether there are options that are for files alone.
fn has_options(arguments: &SourceArguments) -> bool {
    let SourceArguments { text_column, name_column, group_by, path_column, licence, origin, .. } = arguments;
    let texts = [text_column, name_column, group_by, path_column, licence, origin];
    texts.into_iter().any(Option::is_some)
        || arguments.invalid_utf8.is_some()
        || arguments.on_error.is_some()
        || arguments.max_record_bytes.is_some()
        || arguments.validation.is_some()
        || arguments.test.is_some()
}

/// Returns how files are read.
fn with_options(files: SourceConfig, arguments: SourceArguments) -> SourceConfig {
    SourceConfig {
        text_column: arguments.text_column,
        name_column: arguments.name_column,
        group_by: arguments.group_by,
        path_column: arguments.path_column,
        invalid_utf8: arguments.invalid_utf8.unwrap_or(files.invalid_utf8),
        on_error: arguments.on_error.unwrap_or(files.on_error),
        max_record_bytes: arguments.max_record_bytes.unwrap_or(files.max_record_bytes),
        ..files
    }
}

fn print(manifest: &Manifest) {
    result(format!("source     {} ({})", manifest.source, manifest.origin));
    result(format!("licence    {}", manifest.licence));
    let tokenizer = &manifest.tokenizer;
    result(format!("tokenizer  {} ({} rows)", tokenizer.file, tokenizer.vocab_size));
    result("split           documents           tokens            bytes            words");
    for (split, counts) in &manifest.splits {
        let [documents, tokens, bytes, words] =
            [counts.num_documents, counts.num_tokens, counts.num_bytes, counts.num_words].map(exact);
        result(format!("{:<12} {documents:>12} {tokens:>16} {bytes:>16} {words:>16}", split.to_string()));
        if counts.num_documents == 0 && manifest.job.is_none() {
            line(format!(
                "warning: split {split} has no documents: training needs all three; see --validation and --test"
            ));
        }
    }
    for copy in manifest.near_copies.iter().take(MAX_SHOWN) {
        let (split, shared) = (copy.split, 100. * copy.shared);
        result(format!(
            "near copy  {} ({split}) shares {shared:.0} % with {}",
            copy.name, copy.train_document
        ));
    }
    if manifest.num_near_copies > MAX_SHOWN as u64 {
        let (count, named) = (exact(manifest.num_near_copies), manifest.near_copies.len());
        result(format!("near copy  {count} in all; manifest.json names {named} of them"));
    }
    if manifest.num_not_compared > 0 {
        let (count, sampling) = (exact(manifest.num_not_compared), manifest.run_sampling);
        result(format!(
            "near copy  {count} held-out documents have too few lines to look (1 in {sampling} runs)"
        ));
    }
    for skipped in &manifest.skipped {
        result(format!("left out   {} ({})", exact(skipped.count), skipped.reason));
    }
}

fn print_split(folder: &Path, split: Split, num_excerpts: usize) -> Result<()> {
    let Some(statistics) = SplitStatistics::of(folder, split, num_excerpts)? else { return Ok(()) };
    let parts = [
        ("min", 0.),
        ("5 %", 0.05),
        ("25 %", 0.25),
        ("50 %", 0.5),
        ("75 %", 0.75),
        ("95 %", 0.95),
        ("max", 1.),
    ];
    let lens: Vec<String> =
        parts.iter().map(|(name, part)| format!("{name} {}", exact(statistics.percentile(*part)))).collect();
    result(format!("\n{split}: tokens of a document: {}", lens.join(", ")));
    let histogram = statistics.histogram();
    let most = histogram.iter().max().copied().unwrap_or(1).max(1);
    let first = histogram.iter().position(|&count| count > 0).unwrap_or(0);
    for (power, &documents) in histogram.iter().enumerate().skip(first) {
        let bar = "#".repeat((documents * 40).div_ceil(most) as usize);
        result(format!(
            "{:>16} .. {:<16} {:>9}  {bar}",
            exact(1 << power),
            exact((2 << power) - 1),
            exact(documents)
        ));
    }
    for excerpt in &statistics.excerpts {
        result(format!(
            "  {} ({} tokens): {:?}",
            excerpt.name,
            exact(excerpt.num_tokens as u64),
            excerpt.text
        ));
    }
    Ok(())
}
