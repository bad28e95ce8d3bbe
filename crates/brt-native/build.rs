//! Compiles the C++ of this crate against the libtorch that torch-sys found.
use std::{env, path::PathBuf};

const SOURCES: [&str; 4] = ["cpp/distributed.cpp", "cpp/function.cpp", "cpp/native.cpp", "cpp/training.cpp"];

fn main() {
    for file in SOURCES.iter().chain(&["build.rs", "cpp/guarded.h", "cpp/stub"]) {
        println!("cargo:rerun-if-changed={file}");
    }
    // torch-sys does not say where libtorch is when only documentation is built: then nothing is linked either.
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    let include = lib.with_file_name("include");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).debug(false).define("_GLIBCXX_USE_CXX11_ABI", "1");
    build.include("cpp/stub").include(&include).include(include.join("torch/csrc/api/include"));
    build.opt_level(2).files(SOURCES).compile("brt_native");
    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
