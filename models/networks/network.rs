//! A network with its weights on a device, fed with pictures: any network here takes one input of three planes. What
//! its numbers mean is said by the files beside this one.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use meerkat_base::{DetectorError, DetectorInfo};

use super::error::ModelError;
use super::googlenet;
use crate::device::Compute;
use crate::engine::{Engine, Port, RunError};
use crate::graph::limits::{MAX_FILE_BYTES, MAX_XML_BYTES};
use crate::graph::{Graph, ImportError, onnx, openvino};
use crate::weights::{Format, NetworkFiles};

/// Pictures that go to a GPU at once, at most.
const MOST_AT_ONCE: usize = 32;

/// A network ready to run.
#[derive(Debug)]
pub struct Network {
    name: String,
    sha256: String,
    engine: Engine,
    size: (usize, usize),
}

impl Network {
    /// Reads the files and makes the network ready. `size` is the width and height of the input in pixels for
    /// networks that leave it open; it must be that of the file for the others, or `None`.
    ///
    /// # Errors
    /// When a file cannot be read, is no network or one that cannot be computed, when the device is not there, or
    /// when the input is not one picture of three colours.
    pub fn load(
        files: &NetworkFiles,
        compute: impl Into<Compute>,
        size: Option<(usize, usize)>,
    ) -> Result<Self, ModelError> {
        let import = |source| ModelError::Import { network: files.name.clone(), source };
        let graph = match files.format {
            Format::Onnx => {
                let bytes = read(&files.graph, MAX_FILE_BYTES)?;
                with_size(size, |shapes| onnx::import(&bytes, shapes)).map_err(import)?
            }
            Format::OpenVino => {
                let xml = String::from_utf8_lossy(&read(&files.graph, MAX_XML_BYTES)?).into_owned();
                let numbers = match &files.weights {
                    Some(path) => read(path, MAX_FILE_BYTES)?,
                    None => Vec::new(),
                };
                with_size(size, |shapes| openvino::import(&xml, &numbers, shapes)).map_err(import)?
            }
            // Weights without a graph: the one network whose graph is here.
            Format::Torch | Format::Safetensors => {
                let bytes = read(&files.graph, MAX_FILE_BYTES)?;
                if bytes.len() > MAX_FILE_BYTES {
                    let reason = format!("has more than {MAX_FILE_BYTES} bytes");
                    return Err(ModelError::Misfit { network: files.name.clone(), reason });
                }
                googlenet::import(&files.name, files.format, &bytes)?
            }
        };
        let network = Self::new(&files.name, &files.sha256, graph, compute)?;
        match size {
            Some(size) if size != network.size => Err(network.misfit(format!(
                "takes pictures of {}x{} pixels, not {}x{}",
                network.size.0, network.size.1, size.0, size.1
            ))),
            _ => Ok(network),
        }
    }

    /// Makes a graph ready that has been imported already. `sha256` is for status and metrics; it may be empty.
    ///
    /// # Errors
    /// When the device is not there or cannot run it, or the input is not one picture of three colours.
    pub fn new(
        name: &str,
        sha256: &str,
        graph: Graph,
        compute: impl Into<Compute>,
    ) -> Result<Self, ModelError> {
        let Compute { device, precision } = compute.into();
        let engine = Engine::load_as(graph, device, precision)
            .map_err(|source| ModelError::Load { network: name.to_owned(), source })?;
        let size = match engine.inputs() {
            [Port { shape, .. }] if shape.len() == 4 && shape[..2] == [1, 3] && shape[2] * shape[3] > 0 => {
                (shape[3], shape[2])
            }
            inputs => {
                let shapes: Vec<_> = inputs.iter().map(|port| &port.shape).collect();
                return Err(ModelError::Misfit {
                    network: name.to_owned(),
                    reason: format!("takes {shapes:?}, not one picture [1, 3, height, width]"),
                });
            }
        };
        Ok(Self { name: name.to_owned(), sha256: sha256.to_owned(), engine, size })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the file with its weights, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Width and height of its input in pixels.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// The engine, to measure it.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// What it gives.
    pub fn outputs(&self) -> &[Port] {
        self.engine.outputs()
    }

    /// Name and device, for status and log.
    pub fn info(&self) -> DetectorInfo {
        DetectorInfo { name: self.name.clone(), backend: "candle", device: self.engine.device() }
    }

    /// Says that the network cannot serve.
    pub fn misfit(&self, reason: impl Into<String>) -> ModelError {
        ModelError::Misfit { network: self.name.clone(), reason: reason.into() }
    }

    /// Checks the input's size and the number of values of each output.
    ///
    /// # Errors
    /// [`ModelError::Misfit`] when one of them is different.
    pub fn expect(&self, size: (usize, usize), outputs: &[usize]) -> Result<(), ModelError> {
        let values: Vec<usize> = self.outputs().iter().map(Port::len).collect();
        if self.size == size && values == outputs {
            return Ok(());
        }
        Err(self.misfit(format!(
            "takes {}x{} pixels and gives {values:?} values; {}x{} and {outputs:?} are needed here",
            self.size.0, self.size.1, size.0, size.1
        )))
    }

    /// Runs on `count` pictures: on a GPU many at once, on the CPU one after the other. `prepare` writes picture
    /// number `n` as (3, height, width) and may return something that `read` gets back with that picture's outputs,
    /// which come in the order of [`Network::outputs`].
    ///
    /// # Errors
    /// When the device fails. What was read before stays read.
    pub fn run<P>(
        &mut self,
        count: usize,
        mut prepare: impl FnMut(usize, &mut [f32]) -> P,
        mut read: impl FnMut(usize, P, &[&[f32]]),
    ) -> Result<(), RunError> {
        let lens: Vec<usize> = self.outputs().iter().map(Port::len).collect();
        let input_len = 3 * self.size.0 * self.size.1;
        let step = if self.engine.likes_batches() { MOST_AT_ONCE } else { 1 };
        let mut begin = 0;
        while begin < count {
            let batch = step.min(count - begin);
            let mut prepared = Vec::with_capacity(batch);
            let outputs = self.engine.run(batch, &mut |input| {
                // A device that falls back may ask again: the last answer counts.
                prepared.clear();
                let pictures = input.chunks_exact_mut(input_len).take(batch);
                prepared.extend(pictures.enumerate().map(|(n, planes)| prepare(begin + n, planes)));
            })?;
            for (n, prepared) in prepared.into_iter().enumerate() {
                let own: Vec<&[f32]> = lens
                    .iter()
                    .enumerate()
                    .map(|(index, len)| outputs.get(index).get(n * len..(n + 1) * len).unwrap_or_default())
                    .collect();
                read(begin + n, prepared, &own);
            }
            begin += batch;
        }
        Ok(())
    }

    /// An error of this network, as the node's detectors report it.
    pub fn failed(&self, error: &RunError) -> DetectorError {
        DetectorError { detector: self.name.clone(), reason: error.to_string() }
    }
}

/// Imports with the shapes of the file, and where these are open with `size`.
fn with_size(
    size: Option<(usize, usize)>,
    import: impl Fn(&[(&str, &[usize])]) -> Result<Graph, ImportError>,
) -> Result<Graph, ImportError> {
    match (import(&[]), size) {
        (Err(ImportError::OpenShape { input, .. }), Some((width, height))) => {
            import(&[(&input, &[1, 3, height, width])])
        }
        (imported, _) => imported,
    }
}

/// Reads a file of a bearable length.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>, ModelError> {
    let failed = |source| ModelError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more than allowed: the importer refuses what is too long and says so.
    File::open(path).map_err(failed)?.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::networks::testing::brightness_network;

    #[test]
    fn each_picture_gets_its_own_answer() {
        let mut network = brightness_network("test", (4, 2), ("out", &[1, 2]), &[1.0, 0.0], &[0.5, 7.0]);
        assert_eq!(network.size(), (4, 2));
        let mut read = Vec::new();
        network
            .run(
                3,
                |n, planes| {
                    assert_eq!(planes.len(), 24);
                    planes.fill(10.0 * n as f32);
                    n * n
                },
                |n, square, outputs| read.push((n, square, outputs[0].to_vec())),
            )
            .unwrap();
        let expected = [0.5, 10.5, 20.5].map(|mean| vec![mean, 7.0]);
        assert_eq!(read, (0..3).map(|n| (n, n * n, expected[n].clone())).collect::<Vec<_>>());
        network.run(0, |_, _| (), |_, (), _| panic!("there is nothing to read")).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let network = brightness_network("thing", (4, 2), ("out", &[1, 2]), &[1.0, 0.0], &[0.5, 7.0]);
        assert!(network.expect((4, 2), &[2]).is_ok());
        for (size, outputs) in [((2, 4), &[2][..]), ((4, 2), &[3]), ((4, 2), &[2, 2])] {
            let message = network.expect(size, outputs).unwrap_err().to_string();
            assert!(message.contains("thing") && message.contains("4x2"), "{message}");
        }
    }

    #[test]
    fn files_that_are_no_network_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = |format, name: &str| {
            let graph = folder.path().join(name);
            std::fs::write(&graph, b"neither\xffone nor the other").unwrap();
            NetworkFiles {
                name: "own".into(),
                format,
                weights: Some(graph.clone()),
                graph,
                sha256: String::new(),
            }
        };
        for files in [
            files(Format::Onnx, "a.onnx"),
            files(Format::OpenVino, "a.xml"),
            files(Format::Torch, "a.pth"),
            files(Format::Safetensors, "a.safetensors"),
        ] {
            let error = Network::load(&files, DeviceChoice::Cpu, None).unwrap_err();
            assert!(matches!(error, ModelError::Import { .. } | ModelError::Tensors { .. }), "{error}");
            std::fs::remove_file(&files.graph).unwrap();
            let error = Network::load(&files, DeviceChoice::Cpu, None).unwrap_err();
            assert!(matches!(error, ModelError::Read { .. }), "{error}");
        }
    }
}
