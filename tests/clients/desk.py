#!/usr/bin/env python3
"""A client of the desk as the old ones are: a connection per command, recv(1024), one recv(size) where a size was
announced, no pauses, nothing between messages. Needs nothing but Python.

    desk.py HOST PORT chat TEXT | chat-nothing | relay-to N FILE | fetch FILE | picture FILE | face | objects
                    | csv FILE | analyse | chart heat|bars|pie|scatter FILE | clouds FOLDER

Prints what the server said; exits with 1 when the server said something else than docs/protocols.md allows.
"""

import os
import socket
import sys

CHARTS = {"heat": "热力图mode", "bars": "柱状图mode", "pie": "饼状图mode", "scatter": "散点图mode"}


def connect(address):
    client = socket.create_connection(address, timeout=120)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def expect(client, word):
    said = client.recv(1024).decode("utf-8")
    if said != word:
        sys.exit(f"expected {word!r}, the server said {said!r}")


def chat(address, text):
    with connect(address) as client:
        client.send("复读机mode".encode("utf-8"))
        expect(client, "复读机mode")
        client.send(text.encode("utf-8"))
        return client.recv(1024).decode("utf-8")


def chat_nothing(address):
    with connect(address) as client:
        client.send("复读机mode".encode("utf-8"))
        expect(client, "复读机mode")


def relay_to(address, number, data):
    mode = f"加密文件转发mode{number}"
    with connect(address) as client:
        client.send(mode.encode("utf-8"))
        expect(client, mode)
        client.sendall(data)
        expect(client, "接收加密文件完成")


def fetch(address):
    """What the old client gets: one read of 1,024 bytes."""
    with connect(address) as client:
        client.send("接收文件mode".encode("utf-8"))
        data = client.recv(1024)
        if data:
            client.send("success".encode("utf-8"))
            # The node removes it before it closes: whoever asks next gets the next.
            client.recv(1024)
        return data


def upload(address, mode, data):
    with connect(address) as client:
        client.send(mode.encode("utf-8"))
        expect(client, "OK")
        client.send(str(len(data)).encode("utf-8"))
        expect(client, "OK")
        client.sendall(data)
        expect(client, "OK")


def one_answer(address, mode):
    with connect(address) as client:
        client.send(mode.encode("utf-8"))
        return client.recv(1024).decode("utf-8")


def picture_in(client):
    """A picture whose size is announced, read with one recv(size) as the old clients do."""
    size = int(client.recv(1024).decode("utf-8"))
    if not 0 < size <= 60 * 1024:
        sys.exit(f"a picture of {size} bytes")
    client.send("OK".encode("utf-8"))
    data = client.recv(size)
    if len(data) != size:
        sys.exit(f"one read gave {len(data)} of {size} bytes")
    client.send("OK".encode("utf-8"))
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        sys.exit("not a JPEG")
    return data


def chart(address, kind):
    with connect(address) as client:
        client.send(CHARTS[kind].encode("utf-8"))
        return picture_in(client)


def clouds(address):
    with connect(address) as client:
        client.send("词云mode".encode("utf-8"))
        number = int(client.recv(1024).decode("utf-8"))
        client.send("OK".encode("utf-8"))
        return [picture_in(client) for _ in range(number)]


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def main(host, port, command, *rest):
    address = (host, int(port))
    if command == "chat":
        print(chat(address, rest[0]))
    elif command == "chat-nothing":
        chat_nothing(address)
    elif command == "relay-to":
        relay_to(address, rest[0], read(rest[1]))
    elif command == "fetch":
        write(rest[0], fetch(address))
    elif command == "picture":
        upload(address, "发送图片mode", read(rest[0]))
    elif command == "face":
        print(one_answer(address, "人脸检测mode"))
    elif command == "objects":
        print(one_answer(address, "目标识别mode"))
    elif command == "csv":
        upload(address, "发送csv文件mode", read(rest[0]))
    elif command == "analyse":
        print(one_answer(address, "数据分析mode"))
    elif command == "chart":
        write(rest[1], chart(address, rest[0]))
    elif command == "clouds":
        pictures = clouds(address)
        for number, data in enumerate(pictures):
            write(os.path.join(rest[0], f"{number}.jpg"), data)
        print(len(pictures))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
