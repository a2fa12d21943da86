"""A client of `recognise` with lengths in front, as the first ones were: recv(8) once, then chunks of 4096.

    recognise_sized.py HOST PORT FOLDER [--four] [--plain] [--numpy] [--times N] PICTURE...

Sends each picture as the pickle (protocol 0) of a one-dimensional array of bytes and writes what comes back into FOLDER.
Needs nothing but Python: the pickle is written by hand. With --numpy it is made and read by numpy. With --plain
pictures travel as they are. Prints one line per picture: number, bytes, milliseconds.
"""

import argparse
import codecs
import io
import pathlib
import pickle
import socket
import struct
import time

parser = argparse.ArgumentParser()
parser.add_argument("host")
parser.add_argument("port", type=int)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--four", action="store_true")
parser.add_argument("--plain", action="store_true")
parser.add_argument("--numpy", action="store_true")
parser.add_argument("--times", type=int, default=1)
parser.add_argument("pictures", nargs="+", type=pathlib.Path)
args = parser.parse_args()


class Array:
    """Stands in for numpy's array, with what its pickles say of it."""

    def __setstate__(self, state):
        version, shape, dtype, fortran, content = state
        assert version == 1 and not fortran and isinstance(dtype, Dtype), state
        assert shape == (len(content),) and isinstance(content, bytes), (shape, len(content))
        self.content = content


class Dtype:
    def __init__(self, name, align, copy):
        assert (name, align, copy) == ("u1", False, True)

    def __setstate__(self, state):
        assert state == (3, "|", None, None, None, -1, -1, 0), state


def reconstruct(kind, shape, letter):
    assert kind is Array and shape == (0,) and letter == b"b"
    return Array()


class Reader(pickle.Unpickler):
    """Python's own reader of pickles, with stand-ins for what numpy would give."""

    known = {
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Dtype,
        ("_codecs", "encode"): codecs.encode,
    }

    def find_class(self, module, name):
        return self.known[module, name]


def pickled(jpeg):
    if args.plain:
        return jpeg
    if args.numpy:
        import numpy

        return pickle.dumps(numpy.frombuffer(jpeg, dtype=numpy.uint8), 0)
    text = jpeg.decode("latin1")
    for bad in "\\\0\n\r\x1a":
        text = text.replace(bad, f"\\u{ord(bad):04x}") if bad != "\\" else text.replace("\\", "\\u005c")
    return (
        b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nc_codecs\nencode\np3\n"
        b"(Vb\np4\nVlatin1\np5\ntp6\nRp7\ntp8\nRp9\n(I1\n(I%d\ntp10\ncnumpy\ndtype\np11\n(Vu1\np12\nI00\nI01\ntp13\n"
        b"Rp14\n(I3\nV|\np15\nNNNI-1\nI-1\nI0\ntp16\nbI00\ng3\n(V" % len(jpeg)
        + text.encode("latin1")
        + b"\np17\ng5\ntp18\nRp19\ntp20\nb."
    )


def unpickled(message):
    if args.plain:
        return message
    if args.numpy:
        import numpy

        array = pickle.loads(message)
        assert array.dtype == numpy.uint8 and array.ndim == 1, array
        return array.tobytes()
    return Reader(io.BytesIO(message)).load().content


header = "<L" if args.four else "<Q"
node = socket.create_connection((args.host, args.port), timeout=120)
number = 0
for _ in range(args.times):
    for picture in args.pictures:
        message = pickled(picture.read_bytes())
        began = time.monotonic()
        node.sendall(struct.pack(header, len(message)))
        node.sendall(message)
        head = node.recv(struct.calcsize(header))
        assert len(head) == struct.calcsize(header), f"the node answers {head!r}"
        (length,) = struct.unpack(header, head)
        answer = b""
        while len(answer) < length:
            chunk = node.recv(4096)
            assert chunk, "the node hung up"
            answer += chunk
        assert len(answer) == length, "more than was announced"
        jpeg = unpickled(answer)
        assert jpeg.startswith(b"\xff\xd8") and jpeg.endswith(b"\xff\xd9"), jpeg[:4]
        number += 1
        print(number, len(jpeg), round((time.monotonic() - began) * 1000, 2), flush=True)
        (args.folder / f"{number:06}.jpg").write_bytes(jpeg)
node.close()
