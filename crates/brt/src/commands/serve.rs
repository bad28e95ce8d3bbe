//! `brt serve`: completions over HTTP.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use brt_serve::{ApiKey, Worker, WorkerConfig};

use super::text;
use crate::{arguments::ServeArguments, output};

/// The variable that holds the key where no file does.
const KEY_VARIABLE: &str = "BRT_API_KEY";

pub(super) fn run(arguments: &ServeArguments) -> Result<()> {
    let key = api_key(arguments.api_key_file.as_deref())?;
    let (model, tokenizer) = text::load(&arguments.model)?;
    let config = WorkerConfig {
        name: model_name(&arguments.model.run)?,
        limits: arguments.limits.limits(),
        sessions: arguments.sessions.clone(),
    };
    if key.is_none() && !arguments.listen.ip().is_loopback() {
        let address = arguments.listen;
        output::line(format!(
            "warning: --listen {address}: anyone who reaches it can use the model; set {KEY_VARIABLE} or --api-key-file"
        ));
    }
    let name = config.name.clone();
    let worker = Worker::start(model, tokenizer, config)?;
    Ok(brt_serve::serve(worker, key, arguments.listen, |address| {
        output::line(format!("serving {name}: listening on http://{address}"))
    })?)
}

/// Returns the key of the file, or else of the environment: not of the command line, which everyone on the machine can read.
fn api_key(file: Option<&Path>) -> Result<Option<ApiKey>> {
    if let Some(file) = file {
        let text = fs::read_to_string(file).with_context(|| format!("--api-key-file {}", file.display()))?;
        return ApiKey::new(&text).map(Some).with_context(|| format!("--api-key-file {}", file.display()));
    }
    let Some(text) = std::env::var_os(KEY_VARIABLE) else { return Ok(None) };
    ApiKey::new(&text.to_string_lossy()).map(Some).context(KEY_VARIABLE)
}

/// Returns the name of a run's folder, also where the path is `.`.
fn model_name(run: &Path) -> Result<String> {
    let path = fs::canonicalize(run).with_context(|| run.display().to_string())?;
    Ok(path.file_name().map_or_else(|| "brt".into(), |name| name.to_string_lossy().into_owned()))
}
