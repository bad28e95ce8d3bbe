//! `brt score`: how much each token of a text surprises a model, with its state and without.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use brt_data::{Encoding, Tokenizer};
use brt_lm::{Decoder, LanguageModel};
use brt_report::{ScoredDocument, ScoredToken, heatmap_html};
use serde::Serialize;

use super::text;
use crate::{arguments::ScoreArguments, output};

/// Tokens that are scored between two lines of progress.
const TOKENS_AT_ONCE: usize = 65_536;

/// A line of `--jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
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
    for path in &arguments.files {
        let (document, tokens) = score(path, (&model, &tokenizer), arguments)?;
        print(&document);
        if let Some(lines) = &mut lines {
            write_lines(lines, &document, &tokens).context("--jsonl")?;
        }
        documents.push(document);
    }
    if documents.len() > 1 {
        print(&total(&documents));
    }
    if let Some(mut lines) = lines {
        lines.flush().context("--jsonl")?;
    }
    if let Some(path) = &arguments.heatmap {
        let title = "Surprise of each token";
        let page = heatmap_html(title, &model.config().description(), &documents);
        brt_report::write_atomic(path, page.as_bytes())?;
        output::line(format!("{} written", path.display()));
    }
    Ok(())
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("--jsonl {}: cannot write", path.display()))?;
    Ok(BufWriter::new(file))
}

/// Scores one file; returns its tokens, too.
fn score(
    path: &Path,
    (model, tokenizer): (&LanguageModel, &Tokenizer),
    arguments: &ScoreArguments,
) -> Result<(ScoredDocument, Vec<u32>)> {
    let bytes = text::bytes(path)?;
    let name = path.display().to_string();
    let decoder = Decoder::new(model);
    let start = text::start(&decoder, model, arguments.load_state.as_deref())?;
    let encoding = text::encode(tokenizer, &bytes, &start, &name)?;
    if encoding.tokens.len() + start.num_tokens().min(1) as usize <= 1 {
        bail!("{name}: expected a text of two tokens or more, got {}", encoding.tokens.len());
    }
    let nats = nats(&decoder, start.copy(), &encoding.tokens);
    let resets = model.config().recurrence.is_some() && !arguments.carried_only;
    let reset = resets.then(|| self::nats(&Decoder::with_reset_states(model), start, &encoding.tokens));
    let first = nats.iter().position(Option::is_some).unwrap_or(0);
    let scored_from = first.checked_sub(1).map_or(0, |last| encoding.ends[last] as usize);
    let texts = texts(&bytes, &encoding);
    let token = |(i, text): (usize, String)| ScoredToken {
        text,
        nats: nats[i],
        reset_nats: reset.as_ref().and_then(|reset| reset[i]),
    };
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).split_whitespace().count() as u64;
    let document = ScoredDocument {
        name,
        tokens: texts.into_iter().enumerate().map(token).collect(),
        num_bytes: (bytes.len() - scored_from) as u64,
        num_words: words(&bytes[scored_from..]),
    };
    Ok((document, encoding.tokens))
}

fn nats(decoder: &Decoder, mut state: brt_lm::TextState, tokens: &[u32]) -> Vec<Option<f64>> {
    let mut nats = vec![];
    for piece in tokens.chunks(TOKENS_AT_ONCE) {
        nats.extend(decoder.score(&mut state, &text::wide(piece)));
        if nats.len() < tokens.len() {
            output::line(format!(
                "{} of {} tokens",
                output::exact(nats.len() as u64),
                output::exact(tokens.len() as u64)
            ));
        }
    }
    nats
}

/// Returns the text of each token; that of a character of several tokens belongs to the last of them.
fn texts(bytes: &[u8], encoding: &Encoding) -> Vec<String> {
    /// No character is longer.
    const MAX_CHARACTER_LEN: usize = 4;
    let (mut start, mut texts) = (0, vec![]);
    for &end in &encoding.ends {
        let piece = &bytes[start..end as usize];
        let is_whole = std::str::from_utf8(piece).is_ok() || piece.len() >= MAX_CHARACTER_LEN;
        texts.push(if is_whole { String::from_utf8_lossy(piece).into_owned() } else { String::new() });
        if is_whole {
            start = end as usize;
        }
    }
    if let (Some(last), true) = (texts.last_mut(), start < bytes.len()) {
        *last = String::from_utf8_lossy(&bytes[start..]).into_owned();
    }
    texts
}

fn write_lines(out: &mut impl Write, document: &ScoredDocument, tokens: &[u32]) -> Result<()> {
    for (idx, (scored, token)) in document.tokens.iter().zip(tokens).enumerate() {
        let ScoredToken { text, nats, reset_nats } = scored;
        let line =
            Line { file: &document.name, idx, token: *token, text, nats: *nats, reset_nats: *reset_nats };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Returns all documents as one.
fn total(documents: &[ScoredDocument]) -> ScoredDocument {
    ScoredDocument {
        name: format!("all {} texts", documents.len()),
        tokens: documents.iter().flat_map(|document| document.tokens.clone()).collect(),
        num_bytes: documents.iter().map(|document| document.num_bytes).sum(),
        num_words: documents.iter().map(|document| document.num_words).sum(),
    }
}

fn print(document: &ScoredDocument) {
    let num_bytes = document.num_bytes.max(1) as f64;
    let bits = document.total_bits();
    let reset = document.total_reset_bits().map_or(String::new(), |reset| {
        format!("  {:+.4} with the state reset in every block", (reset - bits) / num_bytes)
    });
    let perplexity = (bits * std::f64::consts::LN_2 / document.num_words.max(1) as f64).exp();
    output::result(format!(
        "{:.4} bits/byte{reset}  {} bytes  word perplexity {perplexity:.2} over {} words  {}",
        bits / num_bytes,
        output::exact(document.num_bytes),
        output::exact(document.num_words),
        document.name
    ));
}
