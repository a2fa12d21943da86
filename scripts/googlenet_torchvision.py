#!/usr/bin/env python3
"""torchvision's GoogLeNet on weights and pictures that a formula makes, for comparison. Needs python3-torchvision.

  googlenet_torchvision.py expected FILE     writes the logits that the test of the room `models` compares with
  googlenet_torchvision.py check FILE        computes them again and compares; exit code 1 when they are others
  googlenet_torchvision.py fixtures DIR      writes the small state dicts that the test of the reader compares with
  googlenet_torchvision.py pillow            prints the digests that the test of the resampler compares with
  googlenet_torchvision.py network DIR       writes weights in both forms of torch.save, a picture, and its five best
  googlenet_torchvision.py compare DIR FILE  compares five best that `meerkat detect objects --classify --json` printed
  googlenet_torchvision.py time              prints torchvision's time per picture on one thread, beside
                                             `meerkat models bench DIR/parts.pth --threads 1 --device cpu`
"""
import hashlib
import json
import math
import os
import sys
import time

import numpy
import torch
import torchvision
from PIL import Image
from torchvision.models.googlenet import GoogLeNet, GoogLeNet_Weights

SIZES = [((640, 480), (341, 256)), ((480, 640), (256, 341)), ((100, 375), (256, 960)), ((256, 256), (256, 256)),
         ((7, 3), (597, 256)), ((1000, 37), (224, 8)), ((801, 599), (342, 256))]


def shares(name, count):
    """Numbers of 0 to 1 that depend on a name: FNV-1a of it, then the finaliser of MurmurHash3 over a counter."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    mixed = (numpy.arange(count, dtype=numpy.uint64) + seed) * 0x9E3779B1 & 0xFFFFFFFF
    for shift, factor in [(16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)]:
        mixed = (mixed ^ (mixed >> numpy.uint64(shift))) * numpy.uint64(factor) & numpy.uint64(0xFFFFFFFF)
    return (mixed >> numpy.uint64(8)).astype(numpy.float64) / (1 << 24)


def weight(name, shape):
    own = shares(name, math.prod(shape))
    if name.endswith("running_var") or name.endswith("bn.weight"):
        own = own + 0.5
    elif name.endswith("bn.bias") or name.endswith("running_mean"):
        own = own - 0.5
    elif name.startswith("fc."):
        own = own - 0.5
    else:
        own = (own * 2 - 1) * math.sqrt(6 / math.prod(shape[1:]))
    return torch.from_numpy(own.astype(numpy.float32).reshape(shape))


def network():
    model = GoogLeNet(aux_logits=False, transform_input=True, init_weights=False).eval()
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.dtype == torch.float32:
            state[name] = weight(name, tuple(tensor.shape))
    model.load_state_dict(state)
    return model


def picture(width, height, seed):
    """Bytes of a linear congruential generator, as blue, green and red."""
    state, data = seed, bytearray()
    for _ in range(width * height * 3):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        data.append(state >> 24)
    pixels = numpy.frombuffer(bytes(data), dtype=numpy.uint8).reshape(height, width, 3)
    return Image.fromarray(numpy.ascontiguousarray(pixels[:, :, ::-1]))


def logits():
    preset = GoogLeNet_Weights.IMAGENET1K_V1.transforms()
    pixels = torch.from_numpy(numpy.array(picture(224, 224, 1))).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (preset.mean, preset.std))
    with torch.no_grad():
        return network()(((pixels - mean) / std).unsqueeze(0))[0].numpy()


def expected(path):
    numbers = ", ".join(f"{value:.9g}" for value in logits())
    with open(path, "w") as out:
        out.write(f'{{"torch": "{torch.__version__}", "torchvision": "{torchvision.__version__}", "logits": [{numbers}]}}\n')


def check(path):
    noted = numpy.array(json.load(open(path))["logits"])
    apart = float(numpy.abs(noted - logits()).max() / noted.std())
    print(f"torchvision {torchvision.__version__}: at most {apart:.1e} of a deviation apart")
    sys.exit(apart > 1e-4)


def fixtures(folder):
    state = {
        "block.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 4,
        "block.bias": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "block.part": torch.arange(10, dtype=torch.float32)[4:7],
        "block.empty": torch.zeros(0, 4),
        "counter": torch.tensor(3),
    }
    module = torch.nn.Module()
    ordered = module.state_dict()
    ordered.update(state)
    for name, is_archive in [("small_archive.pth", True), ("small_parts.pth", False)]:
        torch.save(ordered, os.path.join(folder, name), _use_new_zipfile_serialization=is_archive)
    torch.save(network_of_one(), os.path.join(folder, "module.pth"), _use_new_zipfile_serialization=False)
    torch.save({"weight": torch.zeros(2, 3).t()}, os.path.join(folder, "turned.pth"))


def network_of_one():
    return torch.nn.ReLU()


def pillow():
    for (width, height), to in SIZES:
        scaled = numpy.array(picture(width, height, width).resize(to, Image.BILINEAR))
        planes = numpy.ascontiguousarray(scaled.transpose(2, 0, 1)[::-1])
        print(f'        (({width}, {height}), ({to[0]}, {to[1]}), "{hashlib.sha256(planes.tobytes()).hexdigest()}"),')


def write_network(folder):
    model = network()
    # The auxiliary heads are in torchvision's own file too.
    state = model.state_dict()
    state["aux1.fc2.bias"] = torch.zeros(1000)
    torch.save(state, os.path.join(folder, "archive.pth"))
    torch.save(state, os.path.join(folder, "parts.pth"), _use_new_zipfile_serialization=False)
    shown = picture(401, 300, 7)
    shown.save(os.path.join(folder, "noise.png"))
    with torch.no_grad():
        batch = GoogLeNet_Weights.IMAGENET1K_V1.transforms()(shown).unsqueeze(0)
        best = torch.softmax(model(batch)[0], 0).topk(5)
    names = GoogLeNet_Weights.IMAGENET1K_V1.meta["categories"]
    guesses = [[names[place], float(score)] for score, place in zip(best.values, best.indices)]
    json.dump(guesses, open(os.path.join(folder, "best.json"), "w"))


def compare(folder, path):
    wanted = json.load(open(os.path.join(folder, "best.json")))
    lines = [json.loads(line)["guesses"] for line in open(path)]
    apart = 0.0
    for guesses in lines:
        if [guess["label"] for guess in guesses] != [label for label, _ in wanted]:
            print(f"{guesses} instead of {wanted}")
            sys.exit(1)
        apart = max([apart] + [abs(g["score"] - score) for g, (_, score) in zip(guesses, wanted)])
    print(f"{len(lines)} of {len(lines)} with the same five best, scores at most {apart:.1e} apart")
    sys.exit(not lines or apart > 1e-4)


def one_thread():
    torch.set_num_threads(1)
    model, batch, took = network(), torch.zeros(1, 3, 224, 224), []
    with torch.inference_mode():
        for _ in range(35):
            began = time.perf_counter()
            model(batch)
            took.append((time.perf_counter() - began) * 1000)
    took = sorted(took[5:])
    print(f"torchvision {torchvision.__version__}, torch {torch.__version__}, one thread: median {took[len(took) // 2]:.1f} ms, "
          f"best {took[0]:.1f} ms")


if __name__ == "__main__":
    commands = {"expected": expected, "check": check, "fixtures": fixtures, "pillow": pillow,
                "network": write_network, "compare": compare, "time": one_thread}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
