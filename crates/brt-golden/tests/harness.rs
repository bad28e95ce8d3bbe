//! The harness itself: it must fail where a number, a tensor or a file is not as it should be.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{fs, path::Path};

fn carried() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/golden"))
}

/// Copies a golden file, changes its bytes and its sidecar, and returns what the harness finds wrong.
fn failures(name: &str, change: impl Fn(&mut Vec<u8>, &mut String)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = fs::read(carried().join(format!("{name}.safetensors"))).unwrap();
    let mut sidecar = fs::read_to_string(carried().join(format!("{name}.json"))).unwrap();
    change(&mut tensors, &mut sidecar);
    fs::write(folder.path().join(format!("{name}.safetensors")), tensors).unwrap();
    fs::write(folder.path().join(format!("{name}.json")), sidecar).unwrap();
    assert_eq!(brt_golden::list(folder.path()).unwrap(), [name]);
    brt_golden::check(folder.path(), name, tch::Device::Cpu).failures()
}

/// Returns where the data of a tensor begin in a safetensors file.
fn data_of(tensors: &[u8], name: &str) -> usize {
    let header_len = u64::from_le_bytes(tensors[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&tensors[8..8 + header_len]).unwrap();
    8 + header_len + header[name]["data_offsets"][0].as_u64().unwrap() as usize
}

#[test]
fn an_untouched_file_passes() {
    assert_eq!(failures("layer_slide_rotary", |_, _| ()), [""; 0]);
}

#[test]
fn a_number_off_by_more_than_its_tolerance_fails() {
    for tensor in ["seg1.out.y", "seg0.state.values", "grad.tbase.ffn.hidden0.kernel"] {
        let failures = failures("layer_slide_rotary", |tensors, _| {
            let at = data_of(tensors, tensor);
            let value = f32::from_le_bytes(tensors[at..at + 4].try_into().unwrap());
            tensors[at..at + 4].copy_from_slice(&(value + 1e-2).to_le_bytes());
        });
        assert!(failures.iter().any(|f| f.starts_with(&format!("{tensor}: off by "))), "{failures:?}");
    }
}

#[test]
fn an_output_that_nothing_compares_fails() {
    let failures = failures("layer_slide_rotary", |_, sidecar| {
        // An input declared as an output.
        let start = sidecar.find("\"seg0.in.x\"").unwrap();
        let role = start + sidecar[start..].find("\"input\"").unwrap();
        sidecar.replace_range(role..role + 7, "\"output\"");
    });
    assert!(
        failures[0].contains("1 outputs were not compared") && failures[0].contains("seg0.in.x"),
        "{failures:?}"
    );
}

#[test]
fn a_damaged_or_unknown_file_fails() {
    let cut = failures("unit_norm", |tensors, _| tensors.truncate(100));
    assert!(cut[0].contains("expected a whole safetensors file"), "{cut:?}");
    let wrong = failures("model_vanilla", |_, sidecar| {
        *sidecar = sidecar.replace("\"window_length\": 16", "\"window_length\": 12");
    });
    assert!(!wrong.is_empty());
    assert!(brt_golden::list(Path::new("/proc/self")).is_err());
}
