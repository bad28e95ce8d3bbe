//! From text to tokens, and from shards to batches.
#![expect(missing_docs, reason = "the macro of criterion makes a function without")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first surprise")]

use std::{fs, hint::black_box, path::Path, sync::Arc};

use brt_data::{
    CorpusSource, Pack, PrepareConfig, Rank, SourceFormat, Split, StreamConfig, TargetRule, TextPlace,
    TokenSet, Tokenizer, TrainStream, prepare, train_tokenizer,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;

/// Bytes of a piece, as the preparation cuts documents.
const PIECE_BYTES: usize = 1 << 20;

/// Returns 16 MiB of the books, in pieces.
fn pieces() -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    prepare(&PrepareConfig::new(CorpusSource::Books), folder.path()).unwrap();
    let set = TokenSet::open(folder.path(), Split::Train).unwrap();
    let mut text = vec![];
    for document_idx in (0..set.num_documents()).cycle() {
        text.extend(Tokenizer::t5_bytes().decode(&set.document(document_idx).unwrap().tokens.to_vec()));
        if text.len() >= 16 << 20 {
            break;
        }
    }
    text.chunks(PIECE_BYTES).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

/// Texts to tokens by all threads, a piece at a time.
fn tokenize(criterion: &mut Criterion) {
    let pieces = pieces();
    let bpe =
        train_tokenizer(&PrepareConfig::new(CorpusSource::Books), 16_384, 1 << 30, &mut |_, _| ()).unwrap();
    let mut group = criterion.benchmark_group("tokenize");
    group.throughput(Throughput::Bytes(pieces.iter().map(|piece| piece.len() as u64).sum()));
    group.sample_size(10);
    let crate_alone = tokenizers::Tokenizer::from_bytes(bpe.file_contents()).unwrap();
    group.bench_function("bpe-16k, crate tokenizers alone", |bencher| {
        bencher.iter(|| {
            let encode = |piece: &String| crate_alone.encode(piece.as_str(), false).unwrap();
            pieces.par_iter().map(|piece| black_box(encode(piece)).len()).sum::<usize>()
        });
    });
    for (name, tokenizer) in [("t5-bytes", Tokenizer::t5_bytes()), ("bpe-16k", bpe)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let encode = |piece: &String| tokenizer.encode(piece.as_bytes(), TextPlace::Start).unwrap();
                pieces.par_iter().map(|piece| black_box(encode(piece)).tokens.len()).sum::<usize>()
            });
        });
    }
    group.finish();
}

/// A folder of text to shards on the disk.
fn prepare_files(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let text = pieces().concat();
    for i in 0..16 {
        fs::write(folder.path().join(format!("{i}.txt")), &text).unwrap();
    }
    let config = PrepareConfig::new(CorpusSource::files(folder.path(), SourceFormat::Files));
    let mut group = criterion.benchmark_group("prepare");
    group.throughput(Throughput::Bytes(16 * text.len() as u64));
    group.sample_size(10);
    group.bench_function("files, t5-bytes", |bencher| {
        bencher.iter(|| prepare(&config, tempfile::tempdir().unwrap().path()).unwrap());
    });
    group.finish();
}

/// Shards to batches, by one thread.
fn batches(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    prepare(&PrepareConfig::new(CorpusSource::Books), folder.path()).unwrap();
    let set = Arc::new(TokenSet::open(folder.path(), Split::Train).unwrap());
    let mut group = criterion.benchmark_group("batches");
    for (batch, segment_len) in [(8, 512), (32, 4096)] {
        let config = StreamConfig {
            batch,
            segment_len,
            target_rule: TargetRule::AcrossSegments,
            pack: Pack::RestartAnywhere,
            rank: Rank::ALONE,
            max_document_len: None,
        };
        let mut stream = TrainStream::new(Arc::clone(&set), config, 1).unwrap();
        group.throughput(Throughput::Elements((batch * segment_len) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{batch}x{segment_len}")), |bencher| {
            bencher.iter(|| black_box(stream.next_batch().unwrap()));
        });
    }
    group.finish();
}

/// Opening a set of 10.5 GB of tokens: 40 shards of 131 MB of text, which are the same files.
fn open(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    large_set(folder.path());
    criterion.bench_function("open 10 GB", |bencher| {
        bencher.iter(|| TokenSet::open(folder.path(), Split::Train).unwrap().num_documents());
    });
}

/// Writes a set of 40 shards of 2,000 documents of 64 KB each.
fn large_set(folder: &Path) {
    let source = tempfile::tempdir().unwrap();
    let text = "word ".repeat(13_107);
    let rows: String = (0..2000).map(|i| format!("{{\"text\": \"{i} {text}\"}}\n")).collect();
    fs::write(source.path().join("a.jsonl"), rows).unwrap();
    let corpus = CorpusSource::files(source.path(), SourceFormat::Jsonl);
    let config = PrepareConfig { validation: 0., test: 0., ..PrepareConfig::new(corpus) };
    let mut manifest = prepare(&config, folder).unwrap();
    let shard = manifest.shards[0].clone();
    manifest.shards = (0..40).map(|_| shard.clone()).collect();
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

criterion_group!(data, tokenize, prepare_files, batches, open);
criterion_main!(data);
