//! The models folder: where it is, what lies in it and in which state. Writes nothing but its lock.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::{Digests, sha256};
use super::error::{Damage, WeightsError};
use super::manifest::{FileEntry, Manifest, Network};

/// The environment variable that names the models folder. It goes before the settings.
pub const FOLDER_VARIABLE: &str = "MEERKAT_MODELS_DIR";

/// Longest file of a user's own that is taken for a model, bytes.
const MAX_OWN_BYTES: u64 = 4 << 30;

/// Where the models folder is: what [`FOLDER_VARIABLE`] says, else what the settings say (`models.dir`), else
/// `models` in the data folder, so that a node and the command line with the same settings agree. An empty variable is
/// none.
pub fn folder_path(variable: Option<OsString>, configured: Option<&Path>, data_dir: &Path) -> PathBuf {
    variable
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| configured.map(Path::to_owned))
        .unwrap_or_else(|| data_dir.join("models"))
}

/// How a network is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One `.onnx` file.
    Onnx,
    /// OpenVINO IR: an `.xml` file with the graph and a `.bin` file with the numbers.
    OpenVino,
    /// Weights alone: a state dict as `torch.save` writes it.
    Torch,
    /// Weights alone, by name.
    Safetensors,
}

impl Format {
    /// Endings of its files, the one that is opened first.
    pub fn endings(self) -> &'static [&'static str] {
        match self {
            Format::Onnx => &["onnx"],
            Format::OpenVino => &["xml", "bin"],
            Format::Torch => &["pth"],
            Format::Safetensors => &["safetensors"],
        }
    }
}

/// A network's files, there and of the right lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFiles {
    /// The network's name, or the file's without its ending for a user's own.
    pub name: String,
    /// How to read them.
    pub format: Format,
    /// The `.onnx`, the `.xml`, or the file with weights alone.
    pub graph: PathBuf,
    /// The `.bin`; only OpenVINO's format has one.
    pub weights: Option<PathBuf>,
    /// SHA-256 of the file that holds the numbers (`.onnx` or `.bin`), in hexadecimal: by the manifest for a network
    /// of the manifest, else as it was when it was looked at.
    pub sha256: String,
}

impl NetworkFiles {
    /// A model of the user's own: an `.onnx` file, an `.xml` file with its `.bin` beside it, or weights alone. Reads the
    /// file with the numbers once, for its digest.
    pub fn own(path: &Path) -> Result<Self, WeightsError> {
        let not = |reason| WeightsError::NotAModel { path: path.to_owned(), reason };
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        let (format, weights) = match ending.as_deref() {
            Some("onnx") => (Format::Onnx, None),
            Some("xml") => (Format::OpenVino, Some(path.with_extension("bin"))),
            Some("pth") => (Format::Torch, None),
            Some("safetensors") => (Format::Safetensors, None),
            _ => {
                return Err(not(
                    "a model's file ends in .onnx, or in .xml with its .bin beside it, or is a GoogLeNet in .pth or .safetensors",
                ));
            }
        };
        ordinary(path)?;
        let numbers = weights.as_deref().unwrap_or(path);
        let mut file = ordinary(numbers)?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let sha256 = sha256(&mut file).map_err(WeightsError::io(numbers))?;
        Ok(Self { name, format, graph: path.to_owned(), weights, sha256 })
    }

    /// Its files, the one that is opened first.
    pub fn paths(&self) -> Vec<&Path> {
        std::iter::once(self.graph.as_path()).chain(self.weights.as_deref()).collect()
    }
}

/// Opens an ordinary file of a bearable length.
fn ordinary(path: &Path) -> Result<File, WeightsError> {
    let not = |reason| WeightsError::NotAModel { path: path.to_owned(), reason };
    // Asked before opening: opening a pipe would wait for somebody to write into it.
    let metadata = std::fs::metadata(path).map_err(WeightsError::io(path))?;
    if !metadata.is_file() {
        return Err(not("is no ordinary file"));
    }
    if metadata.len() > MAX_OWN_BYTES {
        return Err(not("is longer than 4 GiB"));
    }
    File::open(path).map_err(WeightsError::io(path))
}

/// How closely a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Whether it is there, and its length.
    Size,
    /// Its digests too: reads it all.
    Digest,
}

/// What is known of a file after looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// As the manifest says, as far as was looked.
    Present,
    /// Not there.
    Missing,
    /// There and different.
    Damaged(Damage),
}

/// What is known of a network after looking at its files: the worst of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkState {
    /// All files are as the manifest says, as far as was looked.
    Present,
    /// A file is not there.
    Missing,
    /// A file is there and different.
    Damaged,
}

/// A models folder. It need not exist.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    manifest: &'static Manifest,
}

impl Folder {
    /// A folder with the networks of the built-in manifest.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_manifest(path, Manifest::builtin())
    }

    /// A folder with the networks of another manifest.
    pub fn with_manifest(path: impl Into<PathBuf>, manifest: &'static Manifest) -> Self {
        Self { path: path.into(), manifest }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which networks it may hold.
    pub fn manifest(&self) -> &'static Manifest {
        self.manifest
    }

    /// Where a file of the manifest lies.
    pub fn file_path(&self, file: &FileEntry) -> PathBuf {
        // Part by part: the manifest writes `/`, the system may not.
        file.path.split('/').fold(self.path.clone(), |path, part| path.join(part))
    }

    /// Looks at one file.
    pub fn file_state(&self, file: &FileEntry, depth: Depth) -> Result<FileState, WeightsError> {
        let path = self.file_path(file);
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(FileState::Missing);
            }
            Err(error) => return Err(WeightsError::io(&path)(error)),
        };
        if !metadata.is_file() {
            return Ok(FileState::Damaged(Damage::NoFile));
        }
        if !file.may_have(metadata.len()) {
            let (expected_bytes, found_bytes) = (file.size_bytes, metadata.len());
            return Ok(FileState::Damaged(Damage::Size { expected_bytes, found_bytes }));
        }
        if depth == Depth::Digest {
            let mut opened = File::open(&path).map_err(WeightsError::io(&path))?;
            let digests = Digests::of(&mut opened).map_err(WeightsError::io(&path))?;
            if let Err(damage) = digests.compare(file) {
                return Ok(FileState::Damaged(damage));
            }
        }
        Ok(FileState::Present)
    }

    /// Looks at all files of a network.
    pub fn state(&self, network: &Network, depth: Depth) -> Result<NetworkState, WeightsError> {
        let mut worst = NetworkState::Present;
        for file in &network.files {
            worst = worst.max(match self.file_state(file, depth)? {
                FileState::Present => NetworkState::Present,
                FileState::Missing => NetworkState::Missing,
                FileState::Damaged(_) => NetworkState::Damaged,
            });
        }
        Ok(worst)
    }

    /// The files of a network if all are there with the right lengths. Quick: reads none of them but those of which no
    /// length is published; their digest is compared.
    pub fn locate(&self, network: &str) -> Result<NetworkFiles, WeightsError> {
        self.checked(self.manifest.get(network)?, Depth::Size)
    }

    /// As [`Folder::locate`], but reads every file and compares its digests.
    pub fn verify(&self, network: &str) -> Result<NetworkFiles, WeightsError> {
        self.checked(self.manifest.get(network)?, Depth::Digest)
    }

    /// What `model` means in settings and on the command line: a network of the manifest by its name, else the path
    /// of a model of the user's own.
    pub fn find(&self, model: &str) -> Result<NetworkFiles, WeightsError> {
        if self.manifest.network(model).is_some() {
            return self.locate(model);
        }
        let path = Path::new(model);
        // A bare word that is no file is a name mistyped.
        if path.extension().is_none() && !path.exists() {
            self.manifest.get(model)?;
        }
        NetworkFiles::own(path)
    }

    fn checked(&self, network: &Network, depth: Depth) -> Result<NetworkFiles, WeightsError> {
        let mut paths = Vec::new();
        let mut whole_digest = None;
        for file in &network.files {
            let path = self.file_path(file);
            let depth = if file.is_exact() { depth } else { Depth::Digest };
            match self.file_state(file, depth)? {
                FileState::Present => paths.push(path),
                FileState::Missing => {
                    return Err(WeightsError::Missing { network: network.name.clone(), path });
                }
                FileState::Damaged(damage) => {
                    return Err(WeightsError::Damaged { network: network.name.clone(), path, damage });
                }
            }
        }
        if let (true, Some(path)) = (network.files.last().is_some_and(|file| !file.is_exact()), paths.last())
        {
            let mut opened = File::open(path).map_err(WeightsError::io(path))?;
            whole_digest = Some(sha256(&mut opened).map_err(WeightsError::io(path))?);
        }
        let mut paths = paths.into_iter();
        let graph =
            paths.next().ok_or_else(|| WeightsError::Manifest(format!("{} has no file", network.name)))?;
        Ok(NetworkFiles {
            name: network.name.clone(),
            format: network.format,
            graph,
            weights: paths.next(),
            sha256: whole_digest.unwrap_or_else(|| network.sha256().to_owned()),
        })
    }

    /// Makes the folder and keeps everybody else from pulling into it until the lock is dropped, or the process ends.
    pub fn lock(&self) -> Result<PullLock, WeightsError> {
        std::fs::create_dir_all(&self.path).map_err(WeightsError::io(&self.path))?;
        let path = self.path.join(".pull.lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(WeightsError::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(PullLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(WeightsError::Locked { path: self.path.clone() }),
            Err(TryLockError::Error(source)) => Err(WeightsError::Io { path, source }),
        }
    }
}

/// Holds the right to write into a models folder. The file itself stays: removing it would let two have it.
#[derive(Debug)]
pub struct PullLock {
    _file: File,
}

#[cfg(test)]
mod tests;
