//! `brt eval`: losses of a run's model on the test documents.

use anyhow::Result;
use brt_data::{Manifest, Split};
use brt_report::{Evaluation, StateRule};
use brt_trainer::HeldOut;

use crate::{
    arguments::EvalArguments,
    output::{exact, result},
};

pub(super) fn run(arguments: &EvalArguments) -> Result<()> {
    let device = super::start_device(arguments.device)?;
    let (model, config) = super::load_model(&arguments.run, device)?;
    let manifest = Manifest::read(&arguments.data)?;
    brt_trainer::check_tokenizer(&arguments.run, &manifest, &config)?;
    let held_out = HeldOut::open(&arguments.data, Split::Test)?;
    let evaluate = |rule| brt_trainer::evaluate(&model, &held_out, &config, rule);
    let carried = evaluate(StateRule::Carried)?;
    print(&carried);
    if config.model.recurrence.is_some() {
        let reset = evaluate(StateRule::Reset)?;
        let difference = reset.mean_bits_per_byte() - carried.mean_bits_per_byte();
        result(format!("recurrent state reset in every segment: {difference:+.4} bits/byte"));
    }
    Ok(())
}

fn print(evaluation: &Evaluation) {
    for document in evaluation.documents.iter().filter(|document| document.num_bytes > 0) {
        result(format!(
            "{:.4}  {:>9} bytes  {}",
            document.bits_per_byte(),
            document.num_bytes,
            document.name
        ));
    }
    result(format!(
        "{:.4}  bits/byte, mean of {} documents ({:.4} over all bytes)",
        evaluation.mean_bits_per_byte(),
        evaluation.documents.len(),
        evaluation.total_bits_per_byte()
    ));
    if let Some((perplexity, num_words)) = evaluation.word_perplexity() {
        result(format!(
            "{perplexity:.2}  word perplexity, over {} words between white space",
            exact(num_words)
        ));
    }
}
