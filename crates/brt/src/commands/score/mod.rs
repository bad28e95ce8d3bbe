//! `brt score`: how much each token of a text surprises a model, with its state and without.

mod scored_text;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use brt_data::{Manifest, TokenSet};
use brt_lm::{Decoder, LanguageModel, TextState};
use brt_report::{ScoredDocument, ScoredToken, heatmap_html};
use serde::Serialize;

use self::scored_text::Text;
use super::text;
use crate::{arguments::ScoreArguments, output};

/// Tokens that are scored between two lines of progress.
const TOKENS_AT_ONCE: usize = 65_536;

/// A line of `--jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    idx: usize,
    token: u32,
    text: &'a str,
    nats: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_nats: Option<f64>,
}

pub(super) fn run(arguments: &ScoreArguments) -> Result<()> {
    for (option, path) in [("--jsonl", &arguments.jsonl), ("--heatmap", &arguments.heatmap)] {
        path.iter().try_for_each(|path| text::check_writable(option, path))?;
    }
    let (model, tokenizer) = text::load(&arguments.model)?;
    let mut lines = arguments.jsonl.as_deref().map(create).transpose()?;
    let mut documents = vec![];
    let mut score = |text: Text, start: TextState| -> Result<()> {
        let document = score(&text, start, &model, arguments)?;
        print(&document);
        if let Some(lines) = &mut lines {
            write_lines(lines, &document, &text).context("--jsonl")?;
        }
        documents.push(document);
        Ok(())
    };
    let decoder = Decoder::new(&model);
    let start = || text::start(&decoder, &model, arguments.load_state.as_deref());
    for path in &arguments.files {
        let start = start()?;
        score(Text::of_file(path, &tokenizer, &start)?, start)?;
    }
    if let Some(folder) = &arguments.data {
        let config = super::run_config(&arguments.model.run)?;
        brt_trainer::check_tokenizer(&arguments.model.run, &Manifest::read(folder)?, &config)?;
        let set = TokenSet::open(folder, arguments.split)?;
        for idx in 0..set.num_documents() {
            // 0 stands for whole documents, as in `brt eval`.
            let max_len = arguments.max_document_len.filter(|len| *len > 0);
            let (text, start) = (Text::of_document(&set, idx, &tokenizer, max_len)?, start()?);
            if text.tokens.len() < least_len(&start) {
                output::line(format!("{}: too short to be scored", text.name));
                continue;
            }
            score(text, start)?;
        }
    }
    finish(&documents, lines, &model, arguments)
}

/// Prints the sums and writes what was asked for.
fn finish(
    documents: &[ScoredDocument],
    lines: Option<BufWriter<File>>,
    model: &LanguageModel,
    arguments: &ScoreArguments,
) -> Result<()> {
    if documents.len() > 1 {
        print_all(documents);
    }
    if let (Some(mut lines), Some(path)) = (lines, &arguments.jsonl) {
        let written = lines.flush().and_then(|()| std::fs::rename(part(path), path));
        written.with_context(|| format!("--jsonl {}: cannot write", path.display()))?;
    }
    if let Some(path) = &arguments.heatmap {
        let title = "Surprise of each token";
        let page = heatmap_html(title, &model.config().description(), documents);
        brt_report::write_atomic(path, page.as_bytes())?;
        output::line(format!("{} written", path.display()));
    }
    Ok(())
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file =
        File::create(part(path)).with_context(|| format!("--jsonl {}: cannot write", path.display()))?;
    Ok(BufWriter::new(file))
}

/// Returns the name under which a file grows until it is whole.
fn part(path: &Path) -> PathBuf {
    path.with_extension("part")
}

/// Scores one text from a state on.
fn score(
    text: &Text,
    start: TextState,
    model: &LanguageModel,
    arguments: &ScoreArguments,
) -> Result<ScoredDocument> {
    let decoder = Decoder::new(model);
    let Text { name, tokens, texts, span_from, .. } = text;
    let least = least_len(&start);
    if tokens.len() < least {
        bail!("{name}: expected a text of {least} or more tokens, got {}", tokens.len());
    }
    let nats = nats(&decoder, start.copy(), tokens, name);
    let resets = model.config().recurrence.is_some() && !arguments.carried_only;
    let reset = resets.then(|| {
        let mut start = start;
        decoder.reset_states(&mut start);
        let name = format!("{name}, the state reset");
        self::nats(&Decoder::with_reset_states(model), start, tokens, &name)
    });
    let token = |(i, text): (usize, &String)| ScoredToken {
        text: text.clone(),
        nats: nats[i],
        reset_nats: reset.as_ref().and_then(|reset| reset[i]),
    };
    let first = nats.iter().position(Option::is_some).unwrap_or(0);
    let scored = span_from(first);
    Ok(ScoredDocument {
        name: name.clone(),
        tokens: texts.iter().enumerate().map(token).collect(),
        num_bytes: scored.num_bytes,
        num_words: scored.num_words,
    })
}

/// Returns how many tokens a text needs of which one is predicted.
fn least_len(start: &TextState) -> usize {
    if start.num_tokens() == 0 { 2 } else { 1 }
}

fn nats(decoder: &Decoder, mut state: TextState, tokens: &[u32], name: &str) -> Vec<Option<f64>> {
    let mut nats = vec![];
    for piece in tokens.chunks(TOKENS_AT_ONCE) {
        nats.extend(decoder.score(&mut state, &text::wide(piece)));
        if nats.len() < tokens.len() {
            let [num, all] = [nats.len(), tokens.len()].map(|num| output::exact(num as u64));
            output::line(format!("{name}: {num} of {all} tokens"));
        }
    }
    nats
}

fn write_lines(out: &mut impl Write, document: &ScoredDocument, scored: &Text) -> Result<()> {
    let group = scored.group.as_deref();
    for (idx, (token_scored, token)) in document.tokens.iter().zip(&scored.tokens).enumerate() {
        let ScoredToken { text, nats, reset_nats } = token_scored;
        let line = Line {
            file: &document.name,
            group,
            idx,
            token: *token,
            text,
            nats: *nats,
            reset_nats: *reset_nats,
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn print(document: &ScoredDocument) {
    let sums = [document.total_bits(), document.num_bytes as f64, document.num_words as f64];
    print_sums(&document.name, sums, document.total_reset_bits());
}

fn print_all(documents: &[ScoredDocument]) {
    let sum = |of: fn(&ScoredDocument) -> f64| documents.iter().map(of).sum::<f64>();
    let sums = [sum(ScoredDocument::total_bits), sum(|d| d.num_bytes as f64), sum(|d| d.num_words as f64)];
    let reset = documents.iter().map(ScoredDocument::total_reset_bits).sum::<Option<f64>>();
    print_sums(&format!("all {} texts", documents.len()), sums, reset);
}

fn print_sums(name: &str, [bits, num_bytes, num_words]: [f64; 3], reset_bits: Option<f64>) {
    let per_byte = |bits: f64| bits / num_bytes.max(1.);
    let reset = reset_bits.map_or(String::new(), |reset| {
        format!("  {:+.4} with the state reset in every block", per_byte(reset - bits))
    });
    let perplexity = (bits * std::f64::consts::LN_2 / num_words.max(1.)).exp();
    let perplexity = if perplexity < 1e6 { format!("{perplexity:.2}") } else { format!("{perplexity:.2e}") };
    let [bytes, words] = [num_bytes, num_words].map(|num| output::exact(num as u64));
    let bits = per_byte(bits);
    output::result(format!(
        "{bits:.4} bits/byte{reset}  {bytes} bytes  word perplexity {perplexity} over {words} words  {name}"
    ));
}
