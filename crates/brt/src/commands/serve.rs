//! `brt serve`: completions over HTTP.

use anyhow::{Context, Result};

use crate::{arguments::ServeArguments, output};

pub(super) fn run(arguments: &ServeArguments) -> Result<()> {
    let device = super::start_device(arguments.device)?;
    let (model, _) = super::load_model(&arguments.run, device)?;
    let tokenizer = brt_trainer::load_tokenizer(&arguments.run)?;
    brt_serve::serve(model, tokenizer, arguments.listen, |address| {
        output::line(format!("listening on http://{address}"))
    })
    .with_context(|| format!("--listen {}: cannot listen there", arguments.listen))
}
