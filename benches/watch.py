#!/usr/bin/env python3
"""Measures what viewers of one camera cost: the CPU of a node with one viewer and with many, at the camera's pace.

  benches/watch.py --binary target/release/meerkat --pictures A.jpg B.jpg … [--viewers 100] [--rate 10] [--seconds 20] [--rounds 3]

The camera sends the same pictures in all runs. Beside the node's CPU it measures what the bare datagrams cost on this
machine: the same number of bytes sent by `sendto` and the answers taken by `recvfrom`, with nothing else done. The ratio
that counts is (CPU with many - bare cost of the additional datagrams) / CPU with one, within one run; machines are shared.
Needs no packages.
"""
import argparse
import os
import re
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request


class Node:
    """The node on free ports with a folder of its own."""

    def __init__(self, binary):
        self.folder = tempfile.mkdtemp(prefix="meerkat-bench-")
        env = {k: v for k, v in os.environ.items() if not k.startswith("MEERKAT")}
        settings = {
            "DATA_DIR": self.folder, "FRAME__LISTEN": "127.0.0.1:0", "HTTP__LISTEN": "127.0.0.1:0",
            "DIALECTS__WATCH__LISTEN": "127.0.0.1:0", "DIALECTS__WATCH__CAMERA": "yard",
            "DIALECTS__WATCH__MAX_CONNECTIONS": "2000", "DIALECTS__WATCH__MAX_CONNECTIONS_PER_ADDRESS": "2000",
            "DIALECTS__WATCH__MAX_VIEWERS_PER_ADDRESS": "2000", "STORAGE__FREE_FLOOR_BYTES": "1000000",
            "STORAGE__BALLAST_BYTES": "0",
        }
        env.update({"MEERKAT__" + key: value for key, value in settings.items()})
        self.log = open(os.path.join(self.folder, "log"), "w+")
        self.process = subprocess.Popen([binary, "run"], env=env, stderr=self.log, stdout=self.log)
        self.port = self.port_of(r"cameras can connect.*address=127\.0\.0\.1:(\d+)")
        self.http = self.port_of(r"page, status and metrics.*address=127\.0\.0\.1:(\d+)")
        self.watch = self.port_of(r"a dialect can be spoken.*address=127\.0\.0\.1:(\d+)")

    def port_of(self, pattern):
        give_up = time.time() + 30
        while time.time() < give_up:
            text = re.sub(r"\x1b\[[0-9;]*m", "", open(self.log.name).read())
            found = re.search(pattern, text)
            if found:
                return int(found.group(1))
            time.sleep(0.05)
        sys.exit("the node did not start:\n" + open(self.log.name).read())

    def metric(self, name, **labels):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10).read().decode()
        lines = [line for line in text.splitlines() if re.match(re.escape(name) + r"[ {]", line)]
        has = [line for line in lines if all(f'{k}="{v}"' in line for k, v in labels.items())]
        return sum(float(line.rsplit(" ", 1)[1]) for line in has)

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def camera(port, pictures, rate, stop):
    """Sends pictures at an even pace, as a camera in mode 3 does: each waits for its answer."""
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(b"camera:yard\n")
    link.recv(1)
    link.sendall(b"model3")
    link.recv(1)
    due, n = time.monotonic(), 0
    while not stop.is_set():
        link.sendall(b"start" + pictures[n % len(pictures)] + b"end")
        link.recv(1)
        n, due = n + 1, due + 1 / rate
        time.sleep(max(0, due - time.monotonic()))


class Viewers:
    """Many viewers in one thread; each answers what comes."""

    def __init__(self, port, count):
        self.links, self.taken, self.size, self.done = [], [0] * count, 0, False
        self.selector = selectors.DefaultSelector()
        for n in range(count):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.bind(("127.0.0.1", 0))
            udp.setblocking(False)
            self.selector.register(udp, selectors.EVENT_READ, n)
            link = socket.create_connection(("127.0.0.1", port))
            link.sendall(str(udp.getsockname()[1]).encode())
            self.links.append((link, udp))
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.done:
            for key, _ in self.selector.select(0.1):
                data, source = key.fileobj.recvfrom(65535)
                self.taken[key.data] += 1
                self.size = len(data)
                key.fileobj.sendto(b"continue", source)

    def leave(self):
        self.done = True
        self.thread.join()
        for link, udp in self.links:
            link.close()
            udp.close()


def bare_cost(size, count=20_000):
    """CPU seconds of one datagram of this size sent and one answer taken, with nothing else done."""
    one, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for end in (one, other):
        end.bind(("127.0.0.1", 0))
    picture, target, spent = bytes(size), other.getsockname(), 0.0
    for _ in range(count):
        began = time.thread_time()
        one.sendto(picture, target)
        spent += time.thread_time() - began
        data, source = other.recvfrom(65535)
        other.sendto(b"continue", source)
        began = time.thread_time()
        one.recvfrom(65535)
        spent += time.thread_time() - began
    return spent / count


def measure(node, count, seconds):
    viewers = Viewers(node.watch, count)
    time.sleep(3)
    before, sent, began = node.cpu(), node.metric("meerkat_live_datagrams_total", result="sent"), time.monotonic()
    taken = sum(viewers.taken)
    time.sleep(seconds)
    span = time.monotonic() - began
    cpu = (node.cpu() - before) / span
    datagrams = (node.metric("meerkat_live_datagrams_total", result="sent") - sent) / span
    each = (sum(viewers.taken) - taken) / span / count
    worst = min(viewers.taken)
    size = viewers.size
    viewers.leave()
    return {"cpu": cpu, "datagrams": datagrams, "each": each, "size": size, "worst": worst}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", required=True)
    options.add_argument("--pictures", required=True, nargs="+", help="JPEG files that the camera sends in turn")
    options.add_argument("--viewers", type=int, default=100)
    options.add_argument("--rate", type=float, default=10)
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--rounds", type=int, default=3)
    options = options.parse_args()
    pictures = [open(path, "rb").read() for path in options.pictures]
    node, stop = Node(options.binary), threading.Event()
    threading.Thread(target=camera, args=(node.port, pictures, options.rate, stop), daemon=True).start()
    time.sleep(2)
    ratios = []
    print("| viewers | CPU of the node | pictures/s each | datagrams/s | bytes |\n|---|---|---|---|---|")
    try:
        for _ in range(options.rounds):
            rows = [(n, measure(node, n, options.seconds)) for n in (1, options.viewers)]
            for n, row in rows:
                print(f"| {n} | {row['cpu'] * 100:.2f} % | {row['each']:.2f} | {row['datagrams']:.0f} | {row['size']} |",
                      flush=True)
            (_, one), (_, many) = rows
            bare = bare_cost(many["size"])
            sends = (many["datagrams"] - one["datagrams"]) * bare
            ratio = (many["cpu"] - sends) / one["cpu"]
            ratios.append(ratio)
            print(f"bare datagram and answer {bare * 1e6:.1f} us, so sends {sends * 100:.2f} %; "
                  f"ratio {many['cpu'] / one['cpu']:.2f} in all, {ratio:.2f} without the sends", flush=True)
    finally:
        stop.set()
        node.stop()
    print(f"\nratio without the sends, median of {len(ratios)}: {statistics.median(ratios):.2f} (at most 1.3)")


if __name__ == "__main__":
    main()
