//! Lets the tests and binaries of this crate find libtorch without an environment variable.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Some(libtorch) = std::env::var_os("LIBTORCH") {
        let lib = std::path::Path::new(&libtorch).join("lib");
        println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags"); // RUNPATH: an LD_LIBRARY_PATH wins over it.
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
