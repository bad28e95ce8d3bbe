//! `cargo xtask golden`: how far brt is from the numbers of the official code.

use std::path::Path;

use crate::{
    failure::{Context, Result},
    flags, setup, tools,
};

/// Builds the checker and lets it print its table.
pub(crate) fn run(root: &Path, flags: &flags::Golden) -> Result {
    setup::run(root, false)?;
    let mut command = tools::cargo(root);
    command.args(["run", "--quiet", "--release", "--package", "brt-golden", "--"]);
    if let Some(dir) = &flags.dir {
        // Cargo runs it in the root of the repository.
        let dir = std::path::absolute(dir).context(|| format!("{}: finding the folder", dir.display()))?;
        command.arg("--dir").arg(dir);
    }
    tools::run("comparing with the official code", &mut command)
}
