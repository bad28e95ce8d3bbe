use std::{fs, path::Path, process::Command};

use super::{
    Choice, Source,
    check::check,
    current,
    download::{LIBTORCH, NCCL, has_nccl},
    find::Wish,
};

/// Writes the files that `check` looks at.
fn fake_libtorch(folder: &Path, version: &str, symbol: &str) {
    fs::create_dir_all(folder.join("include/torch/csrc/api/include/torch")).unwrap();
    fs::create_dir_all(folder.join("lib")).unwrap();
    fs::write(folder.join("include/torch/csrc/api/include/torch/torch.h"), "").unwrap();
    fs::write(folder.join("lib/libtorch_cpu.so"), "").unwrap();
    fs::write(folder.join("lib/libc10.so"), format!("\0_ZN3{symbol}\0")).unwrap();
    fs::write(folder.join("version.py"), format!("debug = False\n__version__ = '{version}'\n")).unwrap();
}

const NEW_ABI: &str = "c105ErrorC1ENS_14SourceLocationENSt7__cxx1112basic_stringIcE";

#[test]
fn a_folder_is_checked_for_files_version_and_abi() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(check(&path.join("none")), Err("no such folder".into()));
    assert_eq!(
        check(path),
        Err("expected include/torch/csrc/api/include/torch/torch.h in it, found none".into())
    );
    fake_libtorch(path, "2.8.0+cpu", NEW_ABI);
    assert_eq!(check(path), Err("expected libtorch 2.11.0, got 2.8.0+cpu".into()));
    fake_libtorch(path, "2.11.0+cpu", "c105ErrorC1ENS_14SourceLocationESs");
    assert_eq!(check(path), Err("expected the C++11 ABI (_GLIBCXX_USE_CXX11_ABI=1), got the old one".into()));
    fake_libtorch(path, "2.11.0+cpu", NEW_ABI);
    assert_eq!(check(path), Ok("2.11.0+cpu".into()));
    // build-version, which torch-sys reads, comes before version.py.
    fs::write(path.join("build-version"), "2.11.1\n").unwrap();
    assert_eq!(check(path), Err("expected libtorch 2.11.0, got 2.11.1".into()));
}

#[test]
fn a_whole_folder_is_kept_unless_the_user_wishes_another() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(".libtorch");
    assert_eq!(current(root.path(), &Wish::Nothing), None);
    fake_libtorch(&folder, "2.11.0+cu130", NEW_ABI);
    let choice = current(root.path(), &Wish::Nothing).unwrap();
    assert_eq!(
        choice,
        Choice { source: Source::Existing, path: folder.clone(), version: "2.11.0+cu130".into() }
    );
    assert!(folder.join("brt-setup.json").exists());
    assert_eq!(current(root.path(), &Wish::Python), None);
    assert_eq!(current(root.path(), &Wish::Folder("/opt/libtorch".into())), None);
}

#[test]
fn errors_of_pip_become_one_sentence() {
    for (stderr, expected) in [
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n  torch",
            "a downloaded wheel differs",
        ),
        (
            "WARNING: Retrying\nERROR: No matching distribution (from versions: none)\n",
            "no libtorch from the package index (No matching distribution (from versions: none)): check the network",
        ),
        ("Traceback\nOSError: [Errno 28] No space left on device\n", "the disk became full"),
        (
            "Traceback\nValueError: odd\n\n",
            "pip could not download libtorch: ValueError: odd; or set LIBTORCH",
        ),
        ("", "pip could not download libtorch: no message"),
    ] {
        let text = LIBTORCH.explain(stderr);
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
    assert_eq!(
        NCCL.explain("ValueError: odd"),
        "pip could not download the headers of CUDA and NCCL: ValueError: odd; or set BRT_CUDA_INCLUDE to their folders"
    );
    assert!(NCCL.explain("DO NOT MATCH THE HASHES").contains("the SHA-256 in xtask/nccl.txt"));
}

/// Headers are taken out of all wheels, and those of other wheels than the pinned ones are not taken for theirs.
#[test]
fn headers_are_unpacked_and_known_again() {
    let root = tempfile::tempdir().unwrap();
    let (wheels, folder) = (root.path().join("wheels"), root.path().join(".nccl"));
    fs::create_dir(&wheels).unwrap();
    let make = "import sys, zipfile\n\
        for name, files in [('a', ['nvidia/nccl/include/nccl.h', 'nvidia/nccl/lib/libnccl.so']), ('b', ['nvidia/cu13/include/cccl/nv/target'])]:\n \
        with zipfile.ZipFile(f'{sys.argv[1]}/{name}.whl', 'w') as wheel:\n  for file in files: wheel.writestr(file, file)";
    let python = |program: &str, arguments: [&Path; 2]| {
        let status = Command::new("python3").args(["-c", program]).args(arguments).status().unwrap();
        assert!(status.success());
    };
    python(make, [&wheels, &wheels]);
    python(include_str!("unpack_headers.py"), [&wheels, &folder]);
    assert_eq!(fs::read_to_string(folder.join("nccl.h")).unwrap(), "nvidia/nccl/include/nccl.h");
    assert!(folder.join("cccl/nv/target").exists() && !wheels.exists());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);

    fs::create_dir(root.path().join("xtask")).unwrap();
    fs::write(root.path().join("xtask/nccl.txt"), "one").unwrap();
    assert!(!has_nccl(root.path()));
    fs::write(folder.join("nccl.txt"), "one").unwrap();
    assert!(has_nccl(root.path()));
    fs::write(root.path().join("xtask/nccl.txt"), "two").unwrap();
    assert!(!has_nccl(root.path()));
}
