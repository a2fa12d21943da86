#!/usr/bin/env python3
"""A viewer of live pictures, written from the description of the protocol alone: it joins by TCP, binds its UDP port only
after that, answers each picture with `continue`, and leaves with `continue` and right after it `end`.

    watch.py HOST PORT UDP_PORT PICTURES [FOLDER]

Takes that many pictures, keeps each as FOLDER/NNNN.jpg, and writes one line of JSON. Fails when nothing comes for 5 s or
a datagram is no JPEG of 160x120.
"""

import json
import pathlib
import socket
import sys
import time


def size_of(jpeg):
    """Width and height by the frame header of a baseline or progressive JPEG."""
    if jpeg[:2] != b"\xff\xd8" or jpeg[-2:] != b"\xff\xd9":
        raise ValueError("a datagram is no whole JPEG")
    at = 2
    while at + 9 <= len(jpeg):
        if jpeg[at] != 0xFF:
            raise ValueError("a segment without a marker")
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if marker in (0xC0, 0xC1, 0xC2):
            height, width = (int.from_bytes(jpeg[at + n : at + n + 2], "big") for n in (5, 7))
            return width, height
        at += 2 + length
    raise ValueError("no frame header")


def main():
    host, port, udp_port, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    folder = pathlib.Path(sys.argv[5]) if len(sys.argv) > 5 else None

    control = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    control.connect((host, port))
    control.send(str(udp_port).encode("utf-8"))

    pictures = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    pictures.bind(("", udp_port))
    pictures.settimeout(5)

    times, sizes = [], []
    address = None
    while len(times) < wanted:
        data, address = pictures.recvfrom(65535)
        times.append(time.monotonic())
        sizes.append(len(data))
        if size_of(data) != (160, 120):
            raise ValueError(f"a picture of {size_of(data)}")
        if folder is not None:
            (folder / f"{len(times):04}.jpg").write_bytes(data)
        if len(times) < wanted:
            pictures.sendto(b"continue", address)
    pictures.sendto(b"continue", address)
    pictures.sendto(b"end", address)
    control.close()
    pictures.close()
    print(json.dumps({"pictures": len(times), "seconds": times[-1] - times[0], "largest": max(sizes)}))


if __name__ == "__main__":
    main()
