#!/usr/bin/env python3
"""Measures what clips cost: when a clip is ready, what its encoding costs beside ffmpeg's for the same frames, and what
recording without a break and signing add. Prints Markdown tables.

  benches/clips.py --binary target/release/meerkat [--only ready,encode,continuous] [--seconds 12]

Needs ffmpeg, numpy and opencv-python-headless. Only ratios within one run mean anything: machines are shared.
"""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import cv2
import numpy as np

from node import LEFT, Node, Walkers, make_frames, table


def encode_threads(pid):
    """Processor seconds of the threads that make clips."""
    total = 0.0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            text = open(f"/proc/{pid}/task/{task}/stat").read()
            if "encode" not in text[text.index("("):text.rindex(")")]:
                continue
            total += int(open(f"/proc/{pid}/task/{task}/schedstat").read().split()[0]) / 1e9
        except OSError:
            continue
    return total


def buckets(node, name):
    found = {}
    for line in node.get("/metrics").splitlines():
        if line.startswith(name + "_bucket"):
            bound = line.split('le="')[1].split('"')[0]
            found[float("inf") if bound == "+Inf" else float(bound)] = float(line.rsplit(" ", 1)[1])
    return sorted(found.items())


def at_most(found, share):
    """The bucket's bound below which this share of the values lies."""
    return next(bound for bound, count in found if count >= share * found[-1][1])


def idle(node, limit=60):
    give_up = time.time() + limit
    while time.time() < give_up:
        spools = os.path.join(node.folder, "spool")
        left = [s for s in os.listdir(spools) if s not in ("kept", "set-aside")] if os.path.isdir(spools) else []
        if not left:
            return
        time.sleep(0.1)


def ready(o):
    """Eight cameras at 12.5 frames/s, all in an event: when are their clips ready?"""
    node = Node(o.binary, clip__kinds="motion", clip__post_roll_secs=1, events__motion__end_secs=0.5,
                events__motion__cooldown_secs=0, clip__max_secs=7, storage__free_floor_bytes=0)
    walkers = Walkers(node.port, 8, fps=12.5)
    time.sleep(o.seconds)
    walkers.stop()
    idle(node)
    found = buckets(node, "meerkat_clip_write_duration_seconds")
    clips = int(found[-1][1])
    node.stop()
    table("Clip ready after the end of its recording (8 cameras at 12.5 frames/s in events, parts of 7 s)",
          ["clips", "median at most", "p95 at most", "bound"],
          [[clips, f"{at_most(found, 0.5)} s", f"{at_most(found, 0.95)} s", "2 s"]])


class Sender:
    """A camera in mode 2 that sends these pictures at a pace."""

    def __init__(self, port, pictures, fps, count, mode, name):
        import socket
        s = socket.create_connection(("127.0.0.1", port))
        for message in (f"camera:{name}\n".encode(), f"model{mode}".encode()):
            s.sendall(message)
            s.recv(1)
        due = time.perf_counter()
        for n in range(count):
            s.sendall(b"start" + pictures[n % len(pictures)] + b"end")
            assert s.recv(1) == b"1"
            due += 1 / fps
            time.sleep(max(0, due - time.perf_counter()))
        s.close()


def encode(o):
    """The same frames by the node's encoder and by ffmpeg, processor milliseconds per frame."""
    rows = []
    count, fps = 240, 30
    with tempfile.TemporaryDirectory() as folder:
        for size in (640, 480), (1280, 720):
            paths = moving(os.path.join(folder, f"{size[0]}"), size, 60)
            pictures = [open(path, "rb").read() for path in paths]
            # ffmpeg reads numbered files: the same sixty again and again.
            for n in range(len(paths), count):
                os.symlink(paths[n % len(paths)], os.path.join(folder, f"{size[0]}", f"{n}.jpg"))
            ours, theirs = [], []
            for _ in range(o.runs):
                node = Node(o.binary, video__size="as-received", storage__free_floor_bytes=0, clip__strip=o.strip)
                before = encode_threads(node.pid)
                Sender(node.port, pictures, fps, count, 2, "bench")
                idle(node)
                ours.append((encode_threads(node.pid) - before) / count * 1e3)
                node.stop()
                made = frames_in(newest_mp4(node.folder))
                assert made == count, f"the node's file has {made} frames of {count}"
                out = os.path.join(folder, "out.mp4")
                used = resource.getrusage(resource.RUSAGE_CHILDREN)
                command = ["ffmpeg", "-v", "error", "-y", "-threads", "1", "-framerate", str(fps), "-i",
                           os.path.join(folder, f"{size[0]}", "%d.jpg"), "-vf", "format=yuv420p", "-c:v", "libx264",
                           "-preset", "veryfast", "-crf", "23", "-threads", "1", "-movflags", "+faststart", out]
                subprocess.run(command, check=True)
                now = resource.getrusage(resource.RUSAGE_CHILDREN)
                spent = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
                theirs.append(spent / count * 1e3)
                made = frames_in(out)
                assert made == count, f"ffmpeg's file has {made} frames of {count}"
            median = statistics.median
            rows.append([f"{size[0]}x{size[1]}", f"{median(ours):.2f}", f"{median(theirs):.2f}",
                         f"{median(ours) / median(theirs):.2f}", "≤ 1"])
    table(f"Encoding, processor milliseconds per frame (median of {o.runs} interleaved runs, {count} frames)",
          ["frames", "node's encoder", "ffmpeg -preset veryfast -threads 1", "ratio", "bound"], rows)


def newest_mp4(folder):
    found = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(".mp4")]
    return max(found, key=os.path.getmtime)


def frames_in(path):
    """Frames in a video, counted by decoding them."""
    out = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v", "-count_frames", "-show_entries",
                          "stream=nb_read_frames", "-of", "csv=p=0", path], check=True, capture_output=True, text=True)
    return int(out.stdout.strip().strip(","))


def moving(folder, size, count):
    """A textured scene with sensor noise through which a block walks."""
    rng = np.random.default_rng(3)
    os.makedirs(folder)
    width, height = size
    base = cv2.resize(rng.integers(40, 200, (height // 8, width // 8, 3), np.uint8), size,
                      interpolation=cv2.INTER_CUBIC).astype(np.int16)
    paths = []
    for n in range(count):
        picture = base + rng.normal(0, 3, base.shape).astype(np.int16)
        left = n * (width - width // 6) // count
        picture[height // 4:height * 3 // 4, left:left + width // 6] = (230, 220, 210)
        paths.append(os.path.join(folder, f"{n}.jpg"))
        cv2.imwrite(paths[-1], np.clip(picture, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return paths


def continuous(o):
    """Four cameras at 10 frames/s in mode 3 without events: what recording without a break, and signing, add."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = [open(path, "rb").read() for path in make_frames(folder)]
        rows = []
        plans = [("nothing is recorded", {}), ("without a break", {"continuous": True}),
                 ("and signed", {"continuous": True, "signed": True})]
        for words, plan in plans:
            settings = {"clip__kinds": "object_removed", "storage__free_floor_bytes": 0,
                        "continuous__segment_secs": 5}
            for n in range(4):
                settings[f"cameras__bench{n}__continuous"] = "true" if plan.get("continuous") else "false"
            if plan.get("signed"):
                settings["signing__enabled"] = "true"
            node = Node(o.binary, **settings)
            count = int(o.seconds * 10)
            cpu, encoding = node.cpu(), encode_threads(node.pid)
            threads = [threading.Thread(target=Sender, args=(node.port, pictures, 10, count, 3, f"bench{n}"))
                       for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            idle(node, 20)
            frames = count * 4
            cpu, encoding = (node.cpu() - cpu) / frames * 1e3, (encode_threads(node.pid) - encoding) / frames * 1e3
            rows.append([words, f"{cpu:.2f}", f"{encoding:.2f}", f"{cpu - encoding:.2f}"])
            node.stop()
        table("Recording without a break, 4 cameras at 10 frames/s, 640x480 of 60 KB (processor ms per frame)",
              ["", "the node", "of it encoders", "all else"], rows)


PARTS = {"ready": ready, "encode": encode, "continuous": continuous}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../target/release/meerkat"))
    p.add_argument("--only", default=",".join(PARTS))
    p.add_argument("--seconds", type=float, default=15)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--strip", type=int, default=8)
    o = p.parse_args()
    for name in o.only.split(","):
        PARTS[name](o)
    import shutil
    for left in LEFT:
        shutil.rmtree(left, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
