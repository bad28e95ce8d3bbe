//! Compiles the C++ of this crate against the libtorch that torch-sys found.
use std::{env, path::PathBuf};

const SOURCES: [&str; 5] =
    ["cpp/distributed.cpp", "cpp/function.cpp", "cpp/native.cpp", "cpp/reducer.cpp", "cpp/training.cpp"];

/// Names folders with the headers of CUDA and NCCL, for several processes on GPUs (docs/scaling.md), other than
/// those that `cargo xtask setup --nccl` leaves.
const CUDA_INCLUDE: &str = "BRT_CUDA_INCLUDE";

fn main() {
    println!("cargo:rustc-check-cfg=cfg(brt_nccl)");
    println!("cargo:rerun-if-env-changed={CUDA_INCLUDE}");
    for file in SOURCES.iter().chain(&[
        "build.rs",
        "cpp/group.h",
        "cpp/guarded.h",
        "cpp/nccl.cpp",
        "cpp/stub",
        "cpp/tensors.h",
    ]) {
        println!("cargo:rerun-if-changed={file}");
    }
    // torch-sys does not say where libtorch is when only documentation is built: then nothing is linked either.
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    let include = lib.with_file_name("include");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).debug(false).define("_GLIBCXX_USE_CXX11_ABI", "1");
    build.include("cpp/stub").include(&include).include(include.join("torch/csrc/api/include"));
    if let Some(folders) = cuda_include() {
        build_nccl(&build, &folders);
    }
    build.opt_level(2).files(SOURCES).compile("brt_native");
    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

/// Returns the folders with the headers of CUDA and NCCL, where there are any.
fn cuda_include() -> Option<Vec<PathBuf>> {
    if let Some(folders) = env::var_os(CUDA_INCLUDE).filter(|folders| !folders.is_empty()) {
        return Some(env::split_paths(&folders).collect());
    }
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../.nccl");
    let header = folder.join("nccl.h");
    if !header.exists() {
        return None;
    }
    println!("cargo:rerun-if-changed={}", header.display());
    Some(vec![folder.clone(), folder.join("cccl")])
}

/// Compiles NCCL's part to a library of its own, which is embedded: its symbols are those of libtorch_cuda, which a machine
/// without a GPU has not.
fn build_nccl(build: &cc::Build, folders: &[PathBuf]) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("libbrt_nccl.so");
    let mut build = build.clone();
    build.opt_level(2).includes(folders).pic(true);
    let mut compiler = build.get_compiler().to_command();
    compiler.args(["-shared", "-s", "cpp/nccl.cpp", "-o"]).arg(out);
    let status = compiler.status().expect("the C++ compiler starts");
    assert!(
        status.success(),
        "{}: expected the headers of CUDA and NCCL that this libtorch was built with, see docs/scaling.md; the compiler says what is missing",
        env::join_paths(folders).unwrap_or_default().display()
    );
    println!("cargo:rustc-cfg=brt_nccl");
}
