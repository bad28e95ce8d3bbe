//! `cargo xtask ci`: everything that must hold before a change lands.

use std::{path::Path, process::Command};

use crate::{failure::Result, test, tools};

/// Checks licences and sources where cargo-deny is installed, then runs `test`.
pub(crate) fn run(root: &Path) -> Result {
    let installed = tools::output_of(Command::new("cargo-deny").arg("--version")).is_some();
    if installed {
        crate::ui::headline("licences and sources");
        let checks = ["deny", "--all-features", "check", "bans", "licenses", "sources"];
        tools::run("cargo deny", tools::cargo(root).args(checks))?;
        return test::run(root, &[]);
    }
    test::run(root, &["licences and sources: skipped, cargo-deny is not installed"])
}
