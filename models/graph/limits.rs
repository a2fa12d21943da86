//! How much a model file may claim. Whatever a file says is held against these before memory is taken or work is
//! begun; exceeding one is an error that names it.

/// Longest ONNX file or OpenVINO weights file in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 30;

/// Longest OpenVINO XML in bytes. The largest of the networks here has 0.6 MB.
pub const MAX_XML_BYTES: usize = 16 << 20;

/// Most elements, texts and comments of an XML.
pub const MAX_XML_NODES: u32 = 1 << 20;

/// Most attributes of one XML element. Checking them for duplicates takes time with the square of their number.
pub const MAX_XML_ATTRIBUTES: usize = 128;

/// Most messages and strings in an ONNX file: what takes more memory decoded than in the file.
pub const MAX_ONNX_FIELDS: usize = 1 << 20;

/// Most nodes of a network, those included that are folded away.
pub const MAX_NODES: usize = 1 << 16;

/// Most tensors of a network, constants included.
pub const MAX_TENSORS: usize = 1 << 17;

/// Most inputs of one node.
pub const MAX_NODE_INPUTS: usize = 1 << 10;

/// Most inputs of a network, and most outputs.
pub const MAX_PORTS: usize = 1 << 8;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 8;

/// Most values of one tensor: 256 MiB as f32.
pub const MAX_TENSOR_ELEMENTS: usize = 1 << 26;

/// Most values of all tensors of a network together, constants included.
pub const MAX_TOTAL_ELEMENTS: usize = 1 << 30;

/// Values that constants may have in all that no file brought (made by folding), apart from [`FOLDED_PER_STORED`].
pub const MAX_FOLDED_ELEMENTS: usize = 1 << 22;

/// Values that folding may make for each value of a constant in the file. Dequantising makes about three.
pub const FOLDED_PER_STORED: usize = 8;

/// Multiplications, or values written, that folding may cost for each value that it may make.
pub const FOLDING_WORK_PER_ELEMENT: usize = 16;

/// Longest name in bytes of a node, a tensor or an operator.
pub const MAX_NAME_BYTES: usize = 1 << 10;

/// Largest kernel size, stride, dilation or padding of a window.
pub const MAX_WINDOW: usize = 1 << 12;

/// Multiplications, or values read by a window, that one run of a network may cost. The largest detectors in use are
/// at a thirtieth of it.
pub const MAX_WORK: u64 = 1 << 42;

/// Largest height or width to resize to or from.
pub const MAX_RESIZED_SIDE: usize = 1 << 14;

/// Most candidates per class that enter the suppression of overlapping boxes.
pub const MAX_CANDIDATES: usize = 1 << 14;
