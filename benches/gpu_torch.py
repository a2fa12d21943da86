#!/usr/bin/env python3
"""What PyTorch makes of the same networks on the same card, to be laid beside `cargo bench -p meerkat-models --features
cuda --bench gpu`: batches of 1, 8, 32 and 128, f16 and f32, copies to the card and back included. One JSON object per
line.

  pip install torch onnx onnx2torch
  python3 benches/gpu_torch.py WEIGHTS_DIR

Only the networks that come as ONNX files (YOLOX-nano, YuNet): PyTorch reads no OpenVINO IR, and a network rebuilt by hand
would not be the same one.
"""
import argparse
import json
import os
import sys
import time

NETWORKS = {
    "yolox-nano": ("yolox_nano/yolox_nano.onnx", (3, 416, 416)),
    "yunet-n-320": ("yunet/yunet_n_320_320.onnx", (3, 320, 320)),
    "yunet-n-640": ("yunet/yunet_n_640_640.onnx", (3, 640, 640)),
}


def tensors(value):
    """What a network gives, as one list."""
    return [value] if hasattr(value, "cpu") else [t for part in value for t in tensors(part)]


def batched(model, batch):
    """Files made for one picture name that 1 in their reshapes; any batch may stand there."""
    for initializer in model.graph.initializer:
        import numpy
        from onnx import numpy_helper

        values = numpy_helper.to_array(initializer)
        if values.dtype == numpy.int64 and values.ndim == 1 and values.size >= 3 and values[0] == 1 and -1 in values:
            initializer.CopyFrom(numpy_helper.from_array(
                numpy.concatenate([[batch], values[1:]]).astype(numpy.int64), initializer.name))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    options = parser.parse_args()
    try:
        import onnx
        import torch
        from onnx2torch import convert
    except ImportError as missing:
        sys.exit(f"skipped: {missing}")
    if not torch.cuda.is_available():
        sys.exit("skipped: PyTorch sees no GPU")
    for name, (path, shape) in NETWORKS.items():
        for precision, dtype in (("f16", torch.float16), ("f32", torch.float32)):
            for batch in (1, 8, 32, 128):
                row = {"model": name, "engine": "pytorch", "precision": precision, "batch": batch}
                try:
                    model = batched(onnx.load(os.path.join(options.weights, path)), batch)
                    network = convert(model).eval().cuda().to(dtype)
                    picture = torch.rand((batch, *shape)) * 255
                    took = []
                    with torch.inference_mode():
                        for _ in range(60):
                            began = time.perf_counter()
                            for made in tensors(network(picture.cuda().to(dtype))):
                                made.float().cpu()
                            took.append(time.perf_counter() - began)
                    median = sorted(took[10:])[25]
                    row |= {"median_ms": round(median * 1e3, 4), "pictures_per_second": round(batch / median)}
                except Exception as error:  # one network that cannot be converted must not hide the others
                    row["error"] = f"{type(error).__name__}: {error}"
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
