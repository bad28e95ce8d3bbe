//! Named tensors in safetensors files: whole or not there, and compared completely before one value is taken.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Device, Kind, Tensor};

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;
/// What is written beside the tensors of a file.
pub type Facts = HashMap<String, String>;

/// What can go wrong with a file of tensors.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{path}: cannot {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is not a whole safetensors file.
    #[error("{path}: expected a whole safetensors file, got {got}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        got: String,
    },
    /// The file holds other tensors than the model.
    #[error("{path}: expected the tensors of this model, got {} difference(s):\n  {}", .differences.len(), .differences.join("\n  "))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Every difference, one line each.
        differences: Vec<String>,
    },
}

/// Writes tensors under their names to a temporary file beside `path`, syncs it and renames it.
///
/// # Errors
/// [`CheckpointError::Io`] where the system refuses; an older file of the name then stays as it was.
pub fn save(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), CheckpointError> {
    write(path, tensors, None)
}

/// As [`save`], with facts beside the tensors.
///
/// # Errors
/// As [`save`].
pub fn save_with(path: &Path, tensors: &[(String, Tensor)], facts: Facts) -> Result<(), CheckpointError> {
    write(path, tensors, Some(facts))
}

fn write(path: &Path, tensors: &[(String, Tensor)], facts: Option<Facts>) -> Result<(), CheckpointError> {
    let buffers: Vec<_> =
        tensors.iter().map(|(name, tensor)| (name, tensor.size(), to_bytes(tensor))).collect();
    let views = buffers.iter().map(|(name, size, (dtype, bytes))| {
        let shape = size.iter().map(|&d| d as usize).collect();
        (name.as_str(), TensorView::new(*dtype, shape, bytes).expect("the bytes are those of the shape"))
    });
    let file = safetensors::serialize(views, facts)
        .map_err(|e| CheckpointError::Format { path: path.into(), got: e.to_string() })?;
    write_atomic(path, &file)
}

/// Temporary name, write, fsync, rename.
fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    use std::{fs, io::Write};
    let io_error = |action| move |source| CheckpointError::Io { path: path.to_path_buf(), action, source };
    let part = path.with_extension("part");
    let written = fs::File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(source) = written {
        let _ = fs::remove_file(&part);
        return Err(io_error("write")(source));
    }
    fs::rename(&part, path).map_err(io_error("rename to"))
}

/// Reads all tensors of a file onto `device`.
///
/// # Errors
/// [`CheckpointError::Io`] or [`CheckpointError::Format`].
pub fn load(path: &Path, device: Device) -> Result<Tensors, CheckpointError> {
    load_with(path, device).map(|(tensors, _)| tensors)
}

/// As [`load`], with the facts that are written beside the tensors.
///
/// # Errors
/// As [`load`].
pub fn load_with(path: &Path, device: Device) -> Result<(Tensors, Facts), CheckpointError> {
    let bytes = std::fs::read(path).map_err(|source| CheckpointError::Io {
        path: path.into(),
        action: "read",
        source,
    })?;
    let format = |got: String| CheckpointError::Format { path: path.into(), got };
    let file = SafeTensors::deserialize(&bytes).map_err(|e| format(e.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| format(e.to_string()))?;
    let facts = header.metadata().clone().unwrap_or_default();
    let tensors: Result<_, CheckpointError> = file
        .iter()
        .map(|(name, view)| {
            let kind =
                kind(view.dtype()).ok_or_else(|| format(format!("{name} of kind {:?}", view.dtype())))?;
            let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
            Ok((name.to_string(), Tensor::from_data_size(view.data(), &shape, kind).to_device(device)))
        })
        .collect();
    Ok((tensors?, facts))
}

/// Copies the tensors of a file into those of a model, which must have the same names, shapes and kinds.
///
/// # Errors
/// [`CheckpointError::Mismatch`] with every difference; nothing is copied then.
pub fn load_into(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), CheckpointError> {
    let Some((_, first)) = tensors.first() else { return Ok(()) };
    let file = load(path, first.device())?;
    compare(path, &file, tensors)?;
    tch::no_grad(|| {
        for (name, tensor) in tensors {
            tensor.shallow_clone().copy_(&file[name]);
        }
    });
    Ok(())
}

/// Checks that the tensors of a file have the names, shapes and kinds of those of a model.
///
/// # Errors
/// [`CheckpointError::Mismatch`] with every difference.
pub fn compare(path: &Path, file: &Tensors, tensors: &[(String, Tensor)]) -> Result<(), CheckpointError> {
    let differences = differences(file, tensors);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(CheckpointError::Mismatch { path: path.into(), differences }),
    }
}

fn differences(file: &Tensors, tensors: &[(String, Tensor)]) -> Vec<String> {
    let model: HashMap<&str, &Tensor> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let names: BTreeSet<&str> = file.keys().map(String::as_str).chain(model.keys().copied()).collect();
    let describe = |tensor: &Tensor| format!("{:?} {:?}", tensor.kind(), tensor.size());
    names
        .into_iter()
        .filter_map(|name| match (model.get(name), file.get(name)) {
            (Some(model), Some(file)) if describe(model) == describe(file) => None,
            (Some(model), Some(file)) => {
                Some(format!("{name}: expected {}, got {}", describe(model), describe(file)))
            }
            (Some(model), None) => Some(format!("{name}: expected {}, got nothing", describe(model))),
            (None, Some(file)) => Some(format!("{name}: expected nothing, got {}", describe(file))),
            (None, None) => None,
        })
        .collect()
}

const KINDS: [(Dtype, Kind); 8] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F16, Kind::Half),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];

fn kind(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(d, _)| *d == dtype).map(|(_, kind)| *kind)
}

fn to_bytes(tensor: &Tensor) -> (Dtype, Vec<u8>) {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let kind = tensor.kind();
    let (dtype, _) = KINDS.iter().find(|(_, k)| *k == kind).expect("models hold only the kinds listed here");
    let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    (*dtype, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, tensor: Tensor) -> (String, Tensor) {
        (name.to_string(), tensor)
    }

    #[test]
    fn saves_loads_and_lists_every_difference() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let options = (Kind::Float, Device::Cpu);
        let a = Tensor::arange(6, options).view([2, 3]).transpose(0, 1); // not contiguous
        save(&path, &[named("a", a.shallow_clone()), named("b", Tensor::ones([1], options))]).unwrap();

        let target = Tensor::zeros([3, 2], options);
        let ones = Tensor::zeros([1], options);
        load_into(&path, &[named("a", target.shallow_clone()), named("b", ones)]).unwrap();
        assert_eq!(target, a);

        let wrong = [named("a", Tensor::zeros([2, 3], options)), named("c", Tensor::zeros([1], options))];
        let error = load_into(&path, &wrong).unwrap_err().to_string();
        let expected = "expected the tensors of this model, got 3 difference(s):\n  \
                        a: expected Float [2, 3], got Float [3, 2]\n  \
                        b: expected nothing, got Float [1]\n  \
                        c: expected Float [1], got nothing";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn refuses_a_damaged_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save(&path, &[named("a", Tensor::ones([64], (Kind::Float, Device::Cpu)))]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = load(&path, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("model.safetensors: expected a whole safetensors file"), "{error}");
    }
}
