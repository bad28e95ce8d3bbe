//! `brt serve`: completions over HTTP.

use anyhow::Result;

use crate::{arguments::ServeArguments, output};

pub(super) fn run(arguments: &ServeArguments) -> Result<()> {
    let device = super::start_device(arguments.device)?;
    let (model, _) = super::load_model(&arguments.run, device)?;
    output::line(format!("listening on http://{}", arguments.listen));
    Ok(brt_serve::serve(model, arguments.listen)?)
}
