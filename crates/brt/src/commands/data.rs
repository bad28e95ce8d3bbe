//! `brt data`: from documents to shards of tokens.

use std::path::Path;

use anyhow::{Context, Result, bail};
use brt_data::{
    CorpusSource, Job, Manifest, PrepareConfig, Split, SplitStatistics, Tokenizer, merge, prepare_with,
    train_tokenizer, verify,
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
    line("training; this takes about a second for each megabyte of text");
    let tokenizer = train_tokenizer(&config, arguments.vocab_size, arguments.max_bytes)?;
    brt_report::write_atomic(&arguments.out, tokenizer.file_contents())?;
    result(format!(
        "{}: {} tokens, sha256 {}",
        arguments.out.display(),
        tokenizer.vocab_size(),
        tokenizer.sha256()
    ));
    Ok(())
}

/// Returns what the arguments say of the source, and sets the number of threads.
fn config(arguments: SourceArguments) -> Result<PrepareConfig> {
    let SourceArguments { corpus, validation, test, threads, .. } = arguments;
    if let Some(threads) = threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        pool.with_context(|| format!("--threads {threads}"))?;
    }
    let columns = [arguments.text_column, arguments.name_column, arguments.group_by, arguments.path_column];
    let options = (arguments.invalid_utf8, arguments.on_error, arguments.max_record_bytes);
    let is_pg19 = matches!(corpus, CorpusSource::Pg19(_));
    let source = match corpus {
        CorpusSource::Files(mut files) | CorpusSource::Pg19(mut files) => {
            let [text_column, name_column, group_by, path_column] = columns;
            (files.text_column, files.name_column) = (text_column, name_column);
            (files.group_by, files.path_column) = (group_by, path_column);
            files.invalid_utf8 = options.0.unwrap_or(files.invalid_utf8);
            files.on_error = options.1.unwrap_or(files.on_error);
            files.max_record_bytes = options.2.unwrap_or(files.max_record_bytes);
            if is_pg19 { CorpusSource::Pg19(files) } else { CorpusSource::Files(files) }
        }
        named if columns.iter().all(Option::is_none) && options == (None, None, None) => named,
        named => bail!(
            "--corpus {named}: expected no options of columns and errors, got some; they are for files, leave them out"
        ),
    };
    Ok(PrepareConfig { validation, test, ..PrepareConfig::new(source) })
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
