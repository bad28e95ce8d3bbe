//! Whether a folder is a libtorch that brt can be built with.

use std::{fs, path::Path};

use super::VERSION;

/// Part of a symbol of libc10.so that only the C++11 ABI of the standard library produces.
const CXX11_SYMBOL: &[u8] = b"c105ErrorC1ENS_14SourceLocationENSt7__cxx1112basic_string";

/// Returns the version of the libtorch in a folder, or why brt cannot be built with it.
pub(super) fn check(folder: &Path) -> Result<String, String> {
    if !folder.is_dir() {
        return Err("no such folder".into());
    }
    for file in ["include/torch/csrc/api/include/torch/torch.h", "lib/libtorch_cpu.so", "lib/libc10.so"] {
        if !folder.join(file).exists() {
            return Err(format!("expected {file} in it, found none"));
        }
    }
    let Some(version) = version(folder) else {
        return Err("neither build-version nor version.py says which version it is".into());
    };
    if version.split('+').next() != Some(VERSION) {
        return Err(format!("expected libtorch {VERSION}, got {version}"));
    }
    let library =
        fs::read(folder.join("lib/libc10.so")).map_err(|error| format!("lib/libc10.so: {error}"))?;
    if !library.windows(CXX11_SYMBOL.len()).any(|bytes| bytes == CXX11_SYMBOL) {
        return Err("expected the C++11 ABI (_GLIBCXX_USE_CXX11_ABI=1), got the old one".into());
    }
    Ok(version)
}

/// Returns the version that a folder of libtorch, or of Python's torch, gives for itself.
fn version(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).ok()?;
    let line = text.lines().find(|line| line.starts_with("__version__"))?;
    Some(line.split(['\'', '"']).nth(1)?.to_owned())
}
