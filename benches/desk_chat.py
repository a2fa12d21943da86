#!/usr/bin/env python3
"""How long the desk's chat takes to answer while cameras are busy: 16 cameras in mode 4 push as fast as they are answered,
one client chats, each text on a connection of its own, as the old clients do.

    benches/desk_chat.py target/release/meerkat --picture FILE.jpg [--cameras 16] [--texts 1000]

The cameras send that picture over and over: any JPEG of a camera's size will do.
Prints p50, p99 and the worst in milliseconds, from sending the text to the answer, and from connecting to the answer.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time


def node(program, folder):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MEERKAT")}
    env.update({
        "MEERKAT__DATA_DIR": os.path.join(folder, "data"),
        "MEERKAT__FRAME__LISTEN": "127.0.0.1:0",
        "MEERKAT__HTTP__LISTEN": "127.0.0.1:0",
        "MEERKAT__LOG__FORMAT": "json",
        "MEERKAT__STORAGE__BALLAST_BYTES": "0",
        "MEERKAT__STORAGE__FREE_FLOOR_BYTES": "1000000",
        "MEERKAT__DIALECTS__DESK__LISTEN": ",".join(["127.0.0.1:0"] * 4),
    })
    process = subprocess.Popen([program, "run"], cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
    frame, desk = None, None
    for line in process.stderr:
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("message") == "cameras can connect":
            frame = entry["address"]
        if entry.get("message") == "a dialect can be spoken" and entry.get("dialect") == "desk" and desk is None:
            desk = entry["address"]
        if frame and desk:
            break
    threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
    split = lambda address: (address.rsplit(":", 1)[0], int(address.rsplit(":", 1)[1]))
    return process, split(frame), split(desk)


def camera(address, number, picture, stop, counts):
    with socket.create_connection(address) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(f"camera:bench{number}\n".encode())
        assert link.recv(1) == b"1"
        link.sendall(b"model4")
        assert link.recv(1) == b"1"
        while not stop.is_set():
            link.sendall(b"start" + picture + b"end")
            assert link.recv(1) in b"01"
            counts[number] += 1


def chat(address, text):
    began = time.perf_counter()
    with socket.create_connection(address) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.send("复读机mode".encode())
        assert link.recv(1024).decode() == "复读机mode"
        sent = time.perf_counter()
        link.send(text.encode())
        answer = link.recv(1024).decode()
        done = time.perf_counter()
    return answer, (done - sent) * 1000, (done - began) * 1000


def share(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--picture", required=True, metavar="FILE.jpg", help="what the cameras send, a JPEG")
    args = parser.parse_args()
    try:
        with open(args.picture, "rb") as file:
            picture = file.read()
    except OSError as error:
        parser.error(f"--picture: {error}")
    if not picture.startswith(b"\xff\xd8"):
        parser.error(f"--picture: {args.picture} is not a JPEG")
    with tempfile.TemporaryDirectory() as folder:
        process, frame, desk = node(os.path.abspath(args.program), folder)
        stop, counts = threading.Event(), [0] * args.cameras
        threads = [threading.Thread(target=camera, args=(frame, n, picture, stop, counts)) for n in range(args.cameras)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        began, before = time.perf_counter(), sum(counts)
        texts, answers, whole = ["你好", "time", "吃了吗", "再见", "name"], [], []
        for n in range(args.texts):
            _, answer, all_of_it = chat(desk, texts[n % len(texts)])
            answers.append(answer)
            whole.append(all_of_it)
        rate = (sum(counts) - before) / (time.perf_counter() - began)
        stop.set()
        for thread in threads:
            thread.join()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    print(f"{args.texts} texts beside {args.cameras} cameras ({rate:.0f} frames/s, {len(picture)} bytes each)")
    for name, values in [("text to answer", answers), ("connecting to answer", whole)]:
        print(f"{name}: p50 {share(values, 0.5):.2f} ms, p99 {share(values, 0.99):.2f} ms, worst {max(values):.2f} ms")


if __name__ == "__main__":
    main()
