//! Takes the 8 kHz weights of the Silero voice activity detector out of the model that the `silero` crate carries.
//!
//! They go to `OUT_DIR/silero_8k.f32` as little-endian `f32`, tensor after tensor in the order of [`TENSORS`], which
//! `src/hearing/weights.rs` repeats. A model of another shape fails the build.

#[path = "build/onnx.rs"]
mod onnx;

use std::path::PathBuf;

/// The graph computes both rates; this branch is the one for 8 kHz.
const BRANCH: &str = "If_0_else_branch__Inline_0__";

/// Name within the branch, and shape, of each tensor that inference needs.
const TENSORS: [(&str, &[u64]); 15] = [
    ("stft.forward_basis_buffer", &[130, 1, 128]),
    ("encoder.0.reparam_conv.weight", &[128, 65, 3]),
    ("encoder.0.reparam_conv.bias", &[128]),
    ("encoder.1.reparam_conv.weight", &[64, 128, 3]),
    ("encoder.1.reparam_conv.bias", &[64]),
    ("encoder.2.reparam_conv.weight", &[64, 64, 3]),
    ("encoder.2.reparam_conv.bias", &[64]),
    ("encoder.3.reparam_conv.weight", &[128, 64, 3]),
    ("encoder.3.reparam_conv.bias", &[128]),
    ("decoder.rnn.weight_ih", &[512, 128]),
    ("decoder.rnn.weight_hh", &[512, 128]),
    ("decoder.rnn.bias_ih", &[512]),
    ("decoder.rnn.bias_hh", &[512]),
    ("decoder.decoder.2.weight", &[1, 128, 1]),
    ("decoder.decoder.2.bias", &[1]),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/onnx.rs");
    if let Err(problem) = take_weights() {
        println!("cargo::error=cannot take the voice activity weights from the silero crate: {problem}");
        std::process::exit(1);
    }
}

fn take_weights() -> Result<(), String> {
    let constants = onnx::constants(silero::BUNDLED_MODEL).map_err(|problem| format!("its model: {problem}"))?;
    let mut bytes = Vec::new();
    for (name, shape) in TENSORS {
        let tensor = constants
            .iter()
            .find(|constant| constant.name.strip_prefix(BRANCH) == Some(name))
            .ok_or_else(|| format!("its model has no tensor {BRANCH}{name}; Cargo.toml must pin silero =0.7.0"))?;
        if tensor.shape != shape {
            return Err(format!("tensor {name} has shape {:?}, not {shape:?}", tensor.shape));
        }
        let values = shape.iter().product::<u64>() as usize;
        if tensor.data_type != onnx::FLOAT || tensor.raw.len() != values * 4 {
            return Err(format!(
                "tensor {name} holds {} bytes of data type {}, not {values} float32 values",
                tensor.raw.len(),
                tensor.data_type
            ));
        }
        // ONNX raw data is little-endian on every machine.
        bytes.extend_from_slice(tensor.raw);
    }
    let path = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("silero_8k.f32");
    std::fs::write(&path, bytes).map_err(|problem| format!("writing {}: {problem}", path.display()))
}
