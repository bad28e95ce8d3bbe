//! `brt serve`: completions over HTTP.

use anyhow::{Context, Result};

use crate::{arguments::ServeArguments, output};

pub(super) fn run(arguments: &ServeArguments) -> Result<()> {
    let device = super::start_device(arguments.device)?;
    let (model, _) = super::load_model(&arguments.run, device)?;
    brt_serve::serve(model, arguments.listen, |address| {
        output::line(format!("listening on http://{address}"))
    })
    .with_context(|| format!("--listen {}: cannot listen there", arguments.listen))
}
