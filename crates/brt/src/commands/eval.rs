//! `brt eval`: losses of a run's model on held-out documents.

use anyhow::Result;
use brt_data::Manifest;
use brt_report::{Evaluation, StateRule, write_json};
use brt_trainer::HeldOut;

use crate::{
    arguments::EvalArguments,
    output::{exact, line, result},
};

pub(super) fn run(arguments: &EvalArguments) -> Result<()> {
    let device = super::start_device(arguments.device)?;
    let (model, mut config) = super::load_model(&arguments.run, device)?;
    config.evaluation.batch = arguments.batch.unwrap_or(config.evaluation.batch);
    // 0 stands for all.
    let limit = |given: Option<usize>, own: Option<usize>| given.or(own).filter(|&limit| limit > 0);
    config.evaluation.num_batches = limit(arguments.num_batches, config.evaluation.num_batches);
    config.evaluation.max_document_len =
        limit(arguments.max_document_len, config.evaluation.max_document_len);
    config.validate()?;
    let manifest = Manifest::read(&arguments.data)?;
    brt_trainer::check_tokenizer(&arguments.run, &manifest, &config)?;
    let held_out = HeldOut::open(&arguments.data, arguments.split)?;
    let mut rules = vec![StateRule::Carried];
    if config.model.recurrence.is_some() && !arguments.carried_only {
        rules.push(StateRule::Reset);
        if config.model.segment_len.is_none() {
            rules.push(StateRule::ResetBlocks);
        }
    }
    let mut evaluations: Vec<Evaluation> = vec![];
    for rule in rules {
        let evaluation = brt_trainer::evaluate(&model, &held_out, &config, rule)?;
        match evaluations.first() {
            None => print(&evaluation),
            Some(carried) => print_reset(&evaluation, carried),
        }
        evaluations.push(evaluation);
    }
    if let Some(path) = &arguments.json {
        write_json(path, &evaluations)?;
        line(format!("{} written", path.display()));
    }
    Ok(())
}

fn print(evaluation: &Evaluation) {
    let scored = || evaluation.documents.iter().filter(|document| document.num_bytes > 0);
    for document in scored() {
        let (bits, bytes) = (document.bits_per_byte(), document.num_bytes);
        result(format!("{bits:.4}  {bytes:>9} bytes  {}", document.name));
    }
    result("tokens of the document     bits/token        scored");
    for bucket in evaluation.by_position.iter().filter(|bucket| bucket.num_tokens > 0) {
        let place = format!("{} .. {}", exact(bucket.start_token), exact(bucket.end_token - 1));
        result(format!("{place:>22}  {:>13.4} {:>13}", bucket.bits_per_token(), exact(bucket.num_tokens)));
    }
    result(format!(
        "{:.4}  bits/byte, mean of {} documents ({:.4} over all bytes)",
        evaluation.mean_bits_per_byte(),
        scored().count(),
        evaluation.total_bits_per_byte()
    ));
    result(format!(
        "{:.4}  nats/token ({:.4} bits) over {} tokens, split {}",
        evaluation.nats_per_token(),
        evaluation.bits_per_token(),
        exact(evaluation.num_tokens()),
        evaluation.split
    ));
    if let Some((perplexity, num_words)) = evaluation.word_perplexity() {
        let words = exact(num_words);
        result(format!("{perplexity:.2}  word perplexity, over {words} words between white space"));
    }
}

/// Prints what resetting the recurrent state costs.
fn print_reset(reset: &Evaluation, carried: &Evaluation) {
    let difference = reset.mean_bits_per_byte() - carried.mean_bits_per_byte();
    let place = if reset.state_rule == StateRule::ResetBlocks { "block" } else { "segment" };
    result(format!("recurrent state reset in every {place}: {difference:+.4} bits/byte"));
}
