#!/usr/bin/env python3
"""Measures the whole node against its peers, on the same frames and in the same run. Prints Markdown tables.

  benches/node.py --binary target/release/meerkat --peers DIR [--only NAME,…] [--quick]

DIR holds push_frames.py (a neutral lock-step client) and seed_server.py (the five-mode server as its design note
describes it, in Python with OpenCV). Needs numpy and opencv-python-headless for the peer and for the floor.
Only ratios within one run mean anything: machines are shared.
"""
import argparse
import datetime
import http.server
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import cv2
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
# Folders of finished runs. They are removed at the very end: for minutes ext4 takes no inode that was just freed and
# looks past each of them whenever a file is made, so that removing pictures slows down whoever stores the next ones.
LEFT = []


def make_frames(folder, count=8, target=60_000):
    """A still, textured scene with sensor noise: 640x480 JPEGs of about `target` bytes."""
    rng = np.random.default_rng(7)
    base = cv2.resize(rng.integers(40, 200, (60, 80, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    cv2.rectangle(base, (260, 180), (380, 330), (30, 60, 200), -1)
    os.makedirs(folder, exist_ok=True)
    noises = [rng.normal(0, 1, base.shape) for _ in range(count)]
    low, high = 0.5, 40.0
    for _ in range(18):
        amount = (low + high) / 2
        picture = np.clip(base + noises[0] * amount, 0, 255).astype(np.uint8)
        size = len(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])
        low, high = (amount, high) if size < target else (low, amount)
    paths = []
    for n, noise in enumerate(noises):
        path = os.path.join(folder, f"{n}.jpg")
        picture = np.clip(base + noise * amount, 0, 255).astype(np.uint8)
        cv2.imwrite(path, picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
        paths.append(path)
    return paths


def floor_ms(paths, runs=400):
    """OpenCV's own grey decode at a quarter of the size, one thread: CPU milliseconds per frame."""
    cv2.setNumThreads(1)
    data = [np.fromfile(p, np.uint8) for p in paths]
    for d in data:
        cv2.imdecode(d, cv2.IMREAD_REDUCED_GRAYSCALE_4)
    began = time.process_time()
    for n in range(runs):
        cv2.imdecode(data[n % len(data)], cv2.IMREAD_REDUCED_GRAYSCALE_4)
    return (time.process_time() - began) / runs * 1e3


def on_core(core):
    """What binds a process that is about to start to one processor."""
    return (lambda: os.sched_setaffinity(0, {core})) if core is not None else None


class Node:
    """The node on free ports with a folder of its own."""

    def __init__(self, binary, core=None, **settings):
        self.folder = tempfile.mkdtemp(prefix="meerkat-bench-")
        env = dict(os.environ, MEERKAT_LOG="meerkat=info", MEERKAT__LOG__FORMAT="text")
        env["MEERKAT__DATA_DIR"] = self.folder
        env["MEERKAT__FRAME__LISTEN"] = env["MEERKAT__HTTP__LISTEN"] = "127.0.0.1:0"
        for key, value in settings.items():
            env["MEERKAT__" + key.upper()] = str(value)
        self.log = open(os.path.join(self.folder, "log"), "w+")
        self.process = subprocess.Popen([binary, "run"], env=env, stderr=self.log, stdout=self.log,
                                        preexec_fn=on_core(core))
        self.pid = self.process.pid
        self.port = self.port_of(r"cameras can connect.*address=127\.0\.0\.1:(\d+)")
        self.http = self.port_of(r"page, status and metrics.*address=127\.0\.0\.1:(\d+)")

    def port_of(self, pattern):
        give_up = time.time() + 20
        while time.time() < give_up:
            text = re.sub(r"\x1b\[[0-9;]*m", "", open(self.log.name).read())
            found = re.search(pattern, text)
            if found:
                return int(found.group(1))
            time.sleep(0.05)
        sys.exit("the node did not start:\n" + open(self.log.name).read())

    def get(self, path):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=10).read().decode()

    def metric(self, name, **labels):
        total = 0.0
        for line in self.get("/metrics").splitlines():
            if not line.startswith(name + "{") and not line.startswith(name + " "):
                continue
            if all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def looked_at(self):
        """Frames that motion has looked at, once no more come."""
        last = -1.0
        while True:
            now = self.metric("meerkat_frames_total", stage="motion", result="ok")
            if now == last:
                return now
            last = now
            time.sleep(0.5)

    def anonymous_mb(self):
        text = open(f"/proc/{self.pid}/status").read()
        return int(re.search(r"RssAnon:\s+(\d+)", text).group(1)) / 1024

    def cpu(self):
        fields = open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        LEFT.append(self.folder)


class Seed:
    """The peer on a free port."""

    def __init__(self, peers):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.folder = tempfile.mkdtemp(prefix="seed-bench-")
        script = os.path.join(peers, "seed_server.py")
        self.process = subprocess.Popen([sys.executable, script, "--port", str(self.port), "--capture", self.folder])
        self.pid = self.process.pid
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                time.sleep(0.05)

    def stop(self):
        self.process.kill()
        self.process.wait()
        LEFT.append(self.folder)


def push(peers, server, frames, *, mode, clients, count, fps=0.0, pid=True, core=None):
    """Runs the neutral client; returns its figures."""
    command = [sys.executable, os.path.join(peers, "push_frames.py"), "--port", str(server.port), "--mode", str(mode)]
    command += ["--clients", str(clients), "--frames", str(count), "--fps", str(fps), "--jpeg", *frames]
    if pid:
        command += ["--pid", str(server.pid)]
    out = subprocess.run(command, capture_output=True, text=True, preexec_fn=on_core(core))
    if out.returncode:
        sys.exit(f"push_frames.py: {out.stdout}{out.stderr}")
    text = out.stdout
    number = lambda pattern: float(re.search(pattern, text).group(1)) if re.search(pattern, text) else None
    return {
        "fps": number(r"([\d.]+) frames/s"), "p50": number(r"p50 ([\d.]+)"), "p99": number(r"p99 ([\d.]+)"),
        "max": number(r"max ([\d.]+)"), "cpu": number(r"server CPU ([\d.]+)"), "frames": clients * count,
    }


def table(title, head, rows):
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(str(x) for x in row) + " |")
    sys.stdout.flush()


def motion_cost(o, frames):
    """Mode 3, still scene, 4 clients at 20 frames/s: CPU per 1000 frames."""
    count = 200 if o.quick else 600
    rows, ratios = [], []
    for run in range(1 if o.quick else 3):
        floor = floor_ms(frames)
        node = Node(o.binary)
        ours = push(o.peers, node, frames, mode=3, clients=4, count=count, fps=20)
        looked = node.looked_at()
        node.stop()
        seed = Seed(o.peers)
        theirs = push(o.peers, seed, frames, mode=3, clients=4, count=count, fps=20)
        seed.stop()
        ratios.append((ours["cpu"] / theirs["cpu"], ours["cpu"] / floor))
        rows.append([run + 1, f"{ours['cpu']:.3f}", f"{theirs['cpu']:.3f}", f"{floor:.3f}",
                     f"{ratios[-1][0]:.2f}", f"{ratios[-1][1]:.2f}", f"{looked / ours['frames'] * 100:.1f} %",
                     f"{ours['p50']:.2f} / {ours['p99']:.2f}", f"{theirs['p50']:.2f} / {theirs['p99']:.2f}"])
    table("Mode 3, still scene, 4 clients at 20 frames/s (CPU milliseconds per frame)",
          ["run", "node", "seed server", "floor: grey decode at 1/4", "node / seed (≤ 0.40)", "node / floor (≤ 1.4)",
           "looked at (≥ 99 %)", "node answer ms p50 / p99", "seed answer ms p50 / p99"], rows)


def many_cameras(o, frames):
    """64 cameras at 5 frames/s: answers, CPU per frame, memory."""
    count = 50 if o.quick else 150
    node = Node(o.binary)
    four = push(o.peers, node, frames, mode=3, clients=4, count=count * 4, fps=20)
    node.stop()
    node = Node(o.binary)
    many = push(o.peers, node, frames, mode=3, clients=64, count=count, fps=5)
    looked = node.looked_at()
    node.stop()
    seed = Seed(o.peers)
    theirs = push(o.peers, seed, frames, mode=3, clients=64, count=count, fps=5)
    seed.stop()
    table("64 cameras at 5 frames/s, mode 3", ["", "node", "seed server", "bound"], [
        ["answer p50 ms", f"{many['p50']:.2f}", f"{theirs['p50']:.2f}", ""],
        ["answer p99 ms", f"{many['p99']:.2f}", f"{theirs['p99']:.2f}", "≤ 5"],
        ["looked at", f"{looked / many['frames'] * 100:.1f} %", "", "≥ 99 %"],
        ["CPU ms per frame", f"{many['cpu']:.3f}", f"{theirs['cpu']:.3f}", ""],
        ["CPU per frame, 64 cameras / 4 cameras", f"{many['cpu'] / four['cpu']:.2f}", "", "≤ 1.15"]])


def memory(o, frames):
    """Anonymous memory at 64 cameras above what the rings hold, and whether it grows."""
    minutes = 1 if o.quick else 10
    node = Node(o.binary)
    rows, began = [], time.time()
    pusher = threading.Thread(target=push, args=(o.peers, node, frames), kwargs=dict(
        mode=3, clients=64, count=int(minutes * 60 * 5 + 100), fps=5, pid=False))
    pusher.start()
    marks = [0.25, 0.5, 1, 2, 4, 6, 8, 10]
    for mark in [m for m in marks if m <= minutes]:
        time.sleep(max(0, began + mark * 60 - time.time()))
        rings = node.metric("meerkat_ring_bytes") / 2**20
        rss = node.anonymous_mb()
        rows.append([f"{mark:g}", f"{rss:.1f}", f"{rings:.1f}", f"{rss - rings:.1f}"])
    pusher.join()
    node.stop()
    table("Memory at 64 cameras, 5 frames/s, mode 3 (MB)",
          ["minute", "anonymous RSS", "in rings", "above rings (≤ 60)"], rows)


def pictures(o, frames):
    """Mode 1: frames per second with atomic files."""
    count = 1500 if o.quick else 4000
    rows = []
    for clients in (1, 4):
        for _ in range(1 if o.quick else 3):
            node = Node(o.binary, storage__free_floor_bytes=0)
            ours = push(o.peers, node, frames, mode=1, clients=clients, count=count // clients)
            node.stop()
            seed = Seed(o.peers)
            theirs = push(o.peers, seed, frames, mode=1, clients=clients, count=count // clients)
            seed.stop()
            rows.append([clients, f"{ours['fps']:.0f}", f"{theirs['fps']:.0f}", f"{ours['fps'] / theirs['fps']:.2f}",
                         f"{ours['cpu']:.3f}", f"{theirs['cpu']:.3f}"])
    table("Mode 1, as fast as answers come", ["clients", "node frames/s", "seed server frames/s", "ratio (≥ 1)",
                                              "node CPU ms/frame", "seed CPU ms/frame"], rows)


class Walkers:
    """Cameras that keep an event going, so that clips are being made: two alternating pictures that differ."""

    def __init__(self, port, count, fps=10):
        self.stopping, self.sent, self.threads = False, 0, []
        for n in range(count):
            thread = threading.Thread(target=self.walk, args=(port, n, fps), daemon=True)
            thread.start()
            self.threads.append(thread)

    def walk(self, port, n, fps):
        rng = np.random.default_rng(n)
        base = cv2.resize(rng.integers(40, 200, (60, 80, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
        pictures = []
        for step in range(30):
            picture = base.copy()
            cv2.rectangle(picture, (20 * step, 150), (20 * step + 80, 420), (240, 240, 240), -1)
            pictures.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(f"camera:walk{n}\n".encode())
        s.recv(1)
        s.sendall(b"model3")
        s.recv(1)
        due = time.perf_counter()
        step = 0
        while not self.stopping:
            s.sendall(b"start" + pictures[step % len(pictures)] + b"end")
            if not s.recv(1):
                break
            self.sent += 1
            step += 1
            due += 1 / fps
            time.sleep(max(0, due - time.perf_counter()))
        s.close()

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()


def clips(o, frames):
    """Answers of other cameras while 8 clips are being made, and what an event costs."""
    count = 100 if o.quick else 200
    with_clips, without = [], []
    cost = []
    for _ in range(1 if o.quick else 5):
        for recorded in (False, True):
            kinds = "motion" if recorded else "object_removed"
            node = Node(o.binary, clip__kinds=kinds, storage__free_floor_bytes=0)
            walkers = Walkers(node.port, 8)
            give_up = time.time() + 15
            while recorded and time.time() < give_up:
                cameras = json.loads(node.get("/api/v1/status"))["cameras"]
                if sum(c["recording"] for c in cameras) >= 8:
                    break
                time.sleep(0.2)
            else:
                time.sleep(4)
            cpu, sent = node.cpu(), walkers.sent
            figures = push(o.peers, node, frames, mode=3, clients=4, count=count, fps=20)
            cpu, sent = node.cpu() - cpu, walkers.sent - sent
            cost.append((recorded, (cpu * 1e3 - 0) / (sent + figures["frames"])))
            (with_clips if recorded else without).append(figures["p99"])
            walkers.stop()
            node.stop()
    median = statistics.median
    per = lambda flag: median(c for f, c in cost if f == flag)
    table("Ingest while 8 clips are being made (8 walking cameras at 10 frames/s beside 4 clients at 20)",
          ["", "without clips", "with clips", "bound"], [
              ["answer p99 ms, median", f"{median(without):.2f}", f"{median(with_clips):.2f}",
               f"≤ {max(1.2 * median(without), median(without) + 2):.2f}"],
              ["CPU ms per frame of the node, all frames", f"{per(False):.2f}", f"{per(True):.2f}", "reported"]])


def hostile(o, frames):
    """Answers of good cameras while bad clients are at the door."""
    count = 100 if o.quick else 300
    rows = []
    for bad in (False, True):
        node = Node(o.binary)
        stop = threading.Event()

        def pest(kind):
            while not stop.is_set():
                try:
                    s = socket.create_connection(("127.0.0.1", node.port), 5)
                    s.settimeout(1)
                    if kind == 0:
                        s.sendall(os.urandom(4096))
                        s.recv(1)
                    elif kind == 1:
                        s.sendall(b"model1")
                        s.recv(1)
                        for _ in range(20):
                            s.sendall(b"s")
                            time.sleep(0.05)
                    else:
                        s.sendall(b"model3start\xff\xd8" + b"\0" * 200_000)
                        time.sleep(0.2)
                    s.close()
                except OSError:
                    pass
                time.sleep(0.01)

        pests = [threading.Thread(target=pest, args=(n % 3,), daemon=True) for n in range(12 if bad else 0)]
        for p in pests:
            p.start()
        good = push(o.peers, node, frames, mode=3, clients=4, count=count, fps=20)
        stop.set()
        for p in pests:
            p.join()
        refused = sum(float(l.rsplit(" ", 1)[1]) for l in node.get("/metrics").splitlines()
                      if l.startswith(("meerkat_protocol_errors_total{", "meerkat_limit_hits_total{")))
        node.stop()
        rows.append(["with 12 bad clients" if bad else "alone", f"{good['p50']:.2f}", f"{good['p99']:.2f}", f"{refused:.0f}"])
    table("Good cameras beside bad clients (mode 3, 4 at 20 frames/s)",
          ["", "answer p50 ms", "answer p99 ms", "refusals counted"], rows)


class Hook:
    """A receiver of webhooks that notes when each alert arrived and when its event began."""

    def __init__(self):
        seen = self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                arrived = time.time()
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()
                if body["type"] == "alert":
                    began = datetime.datetime.fromisoformat(body["started"].replace("Z", "+00:00")).timestamp()
                    seen.append((began, arrived, len(body.get("snapshot", ""))))

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()


class Visitors:
    """Cameras in front of which somebody passes now and then; else nothing moves but the noise."""

    def __init__(self, port, paths, count, fps, every, together):
        self.stopping, self.threads = False, []
        still = [open(path, "rb").read() for path in paths]
        passing = []
        for step in range(12):
            picture = cv2.imread(paths[step % len(paths)])
            cv2.rectangle(picture, (50 * step, 140), (50 * step + 90, 430), (235, 235, 235), -1)
            passing.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())
        began = time.perf_counter()
        for n in range(count):
            # The same moment for all, or spread over the time between two visits.
            shift = 0.0 if together else every * n / count
            thread = threading.Thread(target=self.film, args=(port, n, still, passing, fps, every, began + shift),
                                      daemon=True)
            thread.start()
            self.threads.append(thread)

    def film(self, port, n, still, passing, fps, every, first):
        s = socket.create_connection(("127.0.0.1", port))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for words in (f"camera:gate{n}\n".encode(), b"model3"):
            s.sendall(words)
            s.recv(1)
        due, count = time.perf_counter() + n / 16 / fps, 0
        while not self.stopping:
            time.sleep(max(0, due - time.perf_counter()))
            since = due - first - 6
            step = int((since % every) * fps) if since >= 0 else len(passing)
            picture = passing[step] if step < len(passing) else still[count % len(still)]
            s.sendall(b"start" + picture + b"end")
            if not s.recv(1):
                break
            count += 1
            due += 1 / fps
        s.close()

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()


def alerts(o, frames):
    """From the frame that starts an event to the webhook, at 16 cameras whose events are recorded."""
    rows = []
    for together in (False, True):
        hook = Hook()
        node = Node(o.binary, notify__channels__hook__type="webhook", notify__channels__hook__url=hook.url,
                    notify__channels__hook__secret="0123456789abcdef", notify__channels__hook__kinds="motion",
                    clip__kinds="motion", events__motion__end_secs=1, events__motion__cooldown_secs=0,
                    storage__free_floor_bytes=0)
        visitors = Visitors(node.port, frames, 16, 5, 8.0, together)
        began, cpu = time.time(), node.cpu()
        time.sleep(30 if o.quick else 54)
        cpu = (node.cpu() - cpu) / (time.time() - began)
        visitors.stop()
        time.sleep(1)
        delays = sorted((arrived - began) * 1e3 for began, arrived, _ in hook.seen)
        waiting = node.metric("meerkat_outbox_waiting")
        node.stop()
        hook.stop()
        if not delays:
            sys.exit("no alert arrived")
        at = lambda share: delays[min(len(delays) - 1, int(len(delays) * share))]
        rows.append(["all at once" if together else "one after the other", len(delays), f"{at(0.5):.0f}",
                     f"{at(0.95):.0f}", f"{delays[-1]:.0f}", f"{waiting:.0f}", f"{cpu:.2f}"])
    table("From the start of an event to the webhook: 16 cameras at 5 frames/s, mode 3, events recorded (ms)",
          ["visits", "alerts", "p50", "p95 (≤ 250)", "longest", "not delivered", "node's cores"], rows)


def recorded_frames(video, folder):
    """Every second frame of a recording as JPEGs of 640x480."""
    paths, reader, n = [], cv2.VideoCapture(video), 0
    while len(paths) < 300:
        ok, picture = reader.read()
        if not ok:
            break
        if n % 2 == 0:
            paths.append(os.path.join(folder, f"recorded-{n}.jpg"))
            picture = cv2.resize(picture, (640, 480), interpolation=cv2.INTER_LINEAR)
            cv2.imwrite(paths[-1], picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
        n += 1
    return paths


def realtime(o, _):
    """One camera in mode 4, people looked for in every picture, the whole node on one processor."""
    video, weights = os.path.join(o.data, "video/vtest/vtest.mp4"), os.path.join(o.data, "weights")
    if not os.path.exists(video) or not os.path.isdir(weights):
        print(f"realtime: skipped: {video} or {weights} is missing")
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("realtime: skipped: the node and its client need a processor each")
        return
    model, rows = "person-detection-retail-0013", []
    with tempfile.TemporaryDirectory() as folder:
        frames = recorded_frames(video, folder)
        size = statistics.mean(os.path.getsize(path) for path in frames)
        for kinds, name in (("object_removed", "without clips"), ("person", "with clips of people")):
            for fps in o.rates:
                bench = json.loads(subprocess.run(
                    [o.binary, "models", "bench", model, "--device", "cpu", "--runs", "60", "--json"],
                    env=dict(os.environ, MEERKAT_MODELS_DIR=weights), capture_output=True, text=True, check=True,
                    preexec_fn=on_core(cores[0])).stdout)[0]
                node = Node(o.binary, core=cores[0], models__dir=weights, detectors__threads=1, detectors__device="cpu",
                            detectors__person__backend="candle", detectors__person__gate="none",
                            clip__kinds=kinds, storage__free_floor_bytes=0)
                count = int(fps * (5 if o.quick else 10))
                looks = lambda: node.metric("meerkat_inference_duration_seconds_count", model=model)
                cpu, before, began = node.cpu(), looks(), time.perf_counter()
                push(o.peers, node, frames, mode=4, clients=1, count=count, fps=fps, core=cores[1])
                took, cpu, looked = time.perf_counter() - began, node.cpu() - cpu, looks() - before
                node.stop()
                rows.append([name, f"{fps:g}", f"{count / took:.1f}", f"{looked / took:.1f}",
                             f"{looked / count * 100:.1f} %", f"{cpu / max(looked, 1) * 1e3:.1f}",
                             f"{bench['median_ms']:.1f}"])
    table(f"Mode 4 on one processor, 640x480 JPEGs of {size / 1e3:.0f} KB, {model}, every picture",
          ["", "pictures/s wanted", "sent", "looks/s", "looked at", "processor ms per look, everything",
           "the network alone just before, ms"], rows)


PARTS = {"motion": motion_cost, "many": many_cameras, "pictures": pictures, "clips": clips, "hostile": hostile,
         "alerts": alerts, "memory": memory, "realtime": realtime}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", default=os.path.join(HERE, "../target/release/meerkat"))
    p.add_argument("--peers", required=True)
    p.add_argument("--only", default=",".join(PARTS))
    p.add_argument("--data", default=os.environ.get("MEERKAT_TEST_DATA", os.path.join(HERE, "../../shared/data")),
                   help="recordings and weights, for realtime")
    p.add_argument("--rates", default="25,30,50,60", type=lambda text: [float(rate) for rate in text.split(",")],
                   help="pictures per second, for realtime")
    p.add_argument("--quick", action="store_true", help="short runs, for trying")
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        frames = make_frames(folder)
        print(f"frames: {len(frames)} of 640x480, {os.path.getsize(frames[0])} bytes")
        try:
            for name in o.only.split(","):
                PARTS[name](o, frames)
        finally:
            for left in LEFT:
                shutil.rmtree(left, ignore_errors=True)


if __name__ == "__main__":
    main()
