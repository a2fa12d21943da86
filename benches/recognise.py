#!/usr/bin/env python3
"""Frames per second of the dialect `recognise` with one client, the node on one core.

    benches/recognise.py [--binary target/release/meerkat] [--backend candle|classic] [--models DIR] [--enrol NAME=PICTURE]...
                         [--seconds 20] [--clients 1] PICTURE...

Starts a node of its own on core 0, with one thread for detectors, and sends the pictures to it as pickled arrays of
640x480 pixels (they are scaled with ffmpeg), each when the one before is back. The client runs on the other cores.
Prints frames per second, the node's time on the core per frame, and the times from a picture sent to the marked one
received.
"""

import argparse
import json
import os
import pathlib
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--binary", default="target/release/meerkat")
parser.add_argument("--backend", default="classic", choices=["candle", "classic"])
parser.add_argument("--models")
parser.add_argument("--enrol", action="append", default=[], metavar="NAME=PICTURE")
parser.add_argument("--seconds", type=float, default=20)
parser.add_argument("--clients", type=int, default=1)
parser.add_argument("pictures", nargs="+")
args = parser.parse_args()


def pickled(jpeg):
    """A one-dimensional numpy array of bytes in protocol 0, without numpy."""
    text = jpeg.replace(b"\\", b"\\u005c")
    for bad in (0, 10, 13, 26):
        text = text.replace(bytes([bad]), b"\\u%04x" % bad)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nc_codecs\nencode\np3\n"
        b"(Vb\np4\nVlatin1\np5\ntp6\nRp7\ntp8\nRp9\n(I1\n(I%d\ntp10\ncnumpy\ndtype\np11\n(Vu1\np12\nI00\nI01\ntp13\n"
        b"Rp14\n(I3\nV|\np15\nNNNI-1\nI-1\nI0\ntp16\nbI00\ng3\n(V" % len(jpeg)
        + text
        + b"\np17\ng5\ntp18\nRp19\ntp20\nb."
    )


def scaled(picture):
    """The picture in 640x480, as a JPEG."""
    fit = "scale=640:480:force_original_aspect_ratio=decrease,pad=640:480:-1:-1"
    command = ["ffmpeg", "-v", "error", "-i", picture, "-vf", fit, "-q:v", "3", "-f", "mjpeg", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def receive(node, count):
    parts = []
    while count:
        part = node.recv(min(count, 4096))
        if not part:
            sys.exit("the node hung up")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def cpu_secs(pid):
    """Time on a core that a process has had, of all its threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def talk(port, messages, until, times):
    node = socket.create_connection(("127.0.0.1", port))
    number = 0
    while time.monotonic() < until:
        message = messages[number % len(messages)]
        began = time.monotonic()
        node.sendall(struct.pack("<Q", len(message)) + message)
        (length,) = struct.unpack("<Q", receive(node, 8))
        receive(node, length)
        times.append(time.monotonic() - began)
        number += 1


messages = [pickled(scaled(picture)) for picture in args.pictures]
cores = sorted(os.sched_getaffinity(0))
with tempfile.TemporaryDirectory() as folder:
    settings = {
        "DATA_DIR": folder,
        "FRAME__LISTEN": "127.0.0.1:0",
        "HTTP__LISTEN": "127.0.0.1:0",
        "LOG__FORMAT": "json",
        "DIALECTS__RECOGNISE_SIZED__LISTEN": "127.0.0.1:0",
        "DETECTORS__THREADS": "1",
        "DETECTORS__DEVICE": "cpu",
        "DETECTORS__FACE__BACKEND": args.backend,
    }
    if args.models:
        settings["MODELS__DIR"] = os.path.abspath(args.models)
    environment = {**os.environ, **{f"MEERKAT__{key}": value for key, value in settings.items()}}
    binary = pathlib.Path(args.binary).resolve()
    for enrolled in args.enrol:
        name, _, picture = enrolled.partition("=")
        command = [binary, "faces", "enrol", name, picture, "--consent-by", "the benchmark"]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    node = subprocess.Popen(
        ["taskset", "-c", str(cores[0]), binary, "run"], env=environment, stderr=subprocess.PIPE, text=True
    )
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[1:]))
    try:
        port = None
        for line in node.stderr:
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("message") == "a dialect can be spoken":
                port = int(said["address"].rsplit(":", 1)[1])
            if said.get("message") == "page, status and metrics":
                break
        if port is None:
            sys.exit("the node does not speak the dialect")
        threading.Thread(target=node.stderr.read, daemon=True).start()
        talk(port, messages, time.monotonic() + 3, [])
        began, cpu = time.monotonic(), cpu_secs(node.pid)
        until = began + args.seconds
        times = [[] for _ in range(args.clients)]
        clients = [threading.Thread(target=talk, args=(port, messages, until, own)) for own in times]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        took, cpu = time.monotonic() - began, cpu_secs(node.pid) - cpu
        answers = sorted(sum(times, []))
        print(f"{args.backend}: {len(answers) / took:.1f} frames/s of {args.clients} client(s), 640x480, node on one core")
        each = cpu / len(answers)
        print(f"time on the core: {each * 1000:.1f} ms per frame, so {1 / each:.1f} frames/s of a core without other work")
        half, most = answers[len(answers) // 2], answers[int(len(answers) * 0.99)]
        print(f"answers: p50 {half * 1000:.1f} ms, p99 {most * 1000:.1f} ms, max {answers[-1] * 1000:.1f} ms")
        if args.clients > 1:
            print("per client:", sorted(map(len, times)))
    finally:
        node.terminate()
        node.wait()
