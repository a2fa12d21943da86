"""A client of `recognise` with one picture per connection: sends of up to 4096 bytes, then `0` at once.

    recognise_chunked.py HOST PORT FOLDER PICTURE...

Reads until a chunk comes that is exactly `0`. Prints one line per picture: number, bytes.
"""

import pathlib
import socket
import sys

host, port, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
for number, path in enumerate(sys.argv[4:], 1):
    jpeg = pathlib.Path(path).read_bytes()
    node = socket.create_connection((host, port), timeout=120)
    for start in range(0, len(jpeg), 4096):
        node.send(jpeg[start : start + 4096])
    node.send(b"0")
    answer = b""
    while True:
        chunk = node.recv(4096)
        assert chunk, "the node hung up before its 0"
        if chunk == b"0":
            break
        answer += chunk
    node.close()
    assert answer.startswith(b"\xff\xd8") and answer.endswith(b"\xff\xd9"), (answer[:4], answer[-4:])
    print(number, len(answer), flush=True)
    (folder / f"{number:06}.jpg").write_bytes(answer)
