//! With the feature `cuda`: compiles the kernels to PTX with the toolkit's nvcc, which candle's own build needs too. The
//! PTX is for the oldest GPU that the toolkit knows; the driver makes it into code for the GPU that is there. Without the
//! feature nothing is done.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "cuda/kernels.cu";

fn compiler() -> PathBuf {
    let roots = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"];
    let named = roots.iter().filter_map(env::var_os).map(|root| Path::new(&root).join("bin/nvcc"));
    let usual = PathBuf::from("/usr/local/cuda/bin/nvcc");
    named.chain([usual]).find(|path| path.is_file()).unwrap_or_else(|| "nvcc".into())
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for name in ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("kernels.ptx");
    let nvcc = compiler();
    let done = Command::new(&nvcc).args(["--ptx", "-O3", "-std=c++17", SOURCE, "-o"]).arg(&out).output();
    match done {
        Ok(done) if done.status.success() => {}
        Ok(done) => panic!("{} {SOURCE}: {}", nvcc.display(), String::from_utf8_lossy(&done.stderr)),
        Err(error) => panic!("feature `cuda` needs the CUDA toolkit's compiler; {}: {error}", nvcc.display()),
    }
}
