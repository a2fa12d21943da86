#!/usr/bin/env python3
"""Checks signed recordings of Meerkat, written from docs/evidence.md alone. Needs nothing but Python 3.

  scripts/verify_evidence.py --key KEY SPOOL                 a spool: its folder, or the file `frames` in it
  scripts/verify_evidence.py --key KEY CLIP.mp4 [--spool F]  a clip by its proof CLIP.mp4.proof, with its spool

KEY is 64 hexadecimal digits or a PEM file ("BEGIN PUBLIC KEY"). Exit codes: 0 proven, 1 not proven, 2 wrong arguments.
"""
import argparse
import base64
import hashlib
import json
import os
import struct
import sys
import zlib

LINK = b"meerkat link 1\0\0"
HEAD = b"meerkat head 1\0\0"
CLIP = b"meerkat clip 1\0\0"
META, FRAME, END, HEAD_RECORD = 1, 2, 3, 4
LONGEST = {META: 64 << 10, FRAME: 64 << 20, END: 64, HEAD_RECORD: 64}


class Fault(Exception):
    pass


def need(condition, words):
    if not condition:
        raise Fault(words)


# === Ed25519 (RFC 8032, section 6), for machines without the package `cryptography` ===

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT % P
    if (x * x - x2) % P:
        return None
    return P - x if x & 1 != sign else x


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def add(a, b):
    one, two = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    three, four = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = two - one, four - three, four + three, two + one
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n, q):
    total = (0, 1, 1, 0)
    while n:
        if n & 1:
            total = add(total, q)
        q, n = add(q, q), n >> 1
    return total


def plain_verify(key, message, signature):
    a, r = point(key), point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    one, two = times(s, BASE), add(r, times(h, a))
    return (one[0] * two[2] - two[0] * one[2]) % P == 0 and (one[1] * two[2] - two[1] * one[2]) % P == 0


def verify(key, message, signature):
    if len(signature) != 64:
        return False
    try:
        if os.environ.get("PLAIN_ED25519"):
            raise ImportError
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return plain_verify(key, message, signature)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def read_key(text):
    if len(text) == 64 and all(c in "0123456789abcdefABCDEF" for c in text):
        return bytes.fromhex(text)
    with open(text, encoding="ascii") as file:
        lines = file.read().strip().splitlines()
    if len(lines) == 1:
        return bytes.fromhex(lines[0])
    # SubjectPublicKeyInfo (RFC 8410): twelve bytes that never change, then the key.
    der = base64.b64decode("".join(line for line in lines if not line.startswith("-")))
    if len(der) != 44 or der[:12] != bytes.fromhex("302a300506032b6570032100"):
        sys.exit(f"{text} holds no Ed25519 public key")
    return der[12:]


# === A spool ===

def check_spool(data, key):
    """Checks what a file `frames` holds; returns what it shows."""
    at, number = 0, 0
    nonce = chain = note = link = None
    frames = signed = last_micros = 0
    numbers, gaps, finished = None, [], False
    first_link, meta = None, None
    while at < len(data):
        where = f"record {number} at byte {at}: "
        need(not finished, where + "something follows the end record")
        header = data[at:at + 64]
        if len(header) < 64:
            break
        magic, kind, image, flags, zero, own_nonce, seq, wall, micros, width, height, length, crc, zeros, header_crc = (
            struct.unpack("<4sBBBBQQqQIIIIII", header))
        need(header_crc == zlib.crc32(header[:60]), where + "the header is damaged")
        need(magic == b"\xf1MK1" and zero == 0 and zeros == 0 and image <= 4, where + "the header is not one of ours")
        need(flags == 1, where + "it is not signed")
        need(kind in LONGEST and length <= LONGEST[kind], where + "the header is not one of ours")
        body = data[at + 64:at + 64 + 32 + length]
        if len(body) < 32 + length:
            break
        previous, payload = body[:32], body[32:]
        need(zlib.crc32(body) == crc, where + "the checksum is wrong")
        if number == 0:
            need(kind == META, where + "the first record is missing")
            meta = json.loads(payload)
            note = meta["signing"]
            need(note["format"] == 1, where + "another version of the format")
            need(note["key"] == key.hex(), where + "signed with another key, " + note["key"])
            need((note["link"] == 0) == (previous == bytes(32)), where + "its chain begins elsewhere")
            chain, nonce, first_link = bytes.fromhex(note["chain"]), own_nonce, previous
            need(len(chain) == 16, where + "another version of the format")
        else:
            need(own_nonce == nonce, where + "it is from another spool")
            need(previous == link, where + "it does not follow the record before it")
        if kind == META:
            need(number == 0, where + "a second first record")
        elif kind == FRAME:
            need(micros >= last_micros and (frames > 0 or micros == 0), where + "its time goes back")
            if numbers:
                need(seq > numbers[1], where + "its number goes back")
                if seq > numbers[1] + 1:
                    gaps.append((numbers[1] + 1, seq - 1))
            numbers = (numbers[0] if numbers else seq, seq)
            frames, last_micros = frames + 1, micros
        else:
            if kind == HEAD_RECORD:
                need(seq == note["link"] + number, where + "it counts the records wrongly")
            else:
                need((seq, micros) == (frames, last_micros), where + "it counts the frames wrongly")
                finished = True
            message = HEAD + chain + header[:52] + previous
            need(verify(key, message, payload), where + "the signature is wrong")
            signed = frames
        link = hashlib.sha256(LINK + previous + header[:52] + hashlib.sha256(payload).digest()).digest()
        at, number = at + 96 + length, number + 1
    need(number > 0, "the spool has no first record")
    return {
        "camera": meta["camera"], "frames": frames, "signed_frames": signed, "numbers": numbers, "gaps": gaps,
        "finished": finished, "torn_bytes": len(data) - at, "first_link": first_link.hex(), "last_link": link.hex(),
    }


def read_spool(path):
    with open(os.path.join(path, "frames") if os.path.isdir(path) else path, "rb") as file:
        return file.read()


def whole(found):
    need(not found["gaps"], f"frames are missing: {found['gaps']}")


# === A clip ===

def read_proof(path, key):
    with open(path, encoding="utf-8") as file:
        signed = json.load(file)
    need(signed["key"] == key.hex(), "the proof is signed with another key")
    message = CLIP + signed["proof"].encode()
    need(verify(key, message, bytes.fromhex(signed["signature"])), "the signature of the proof is wrong")
    proof = json.loads(signed["proof"])
    need(proof["format"] == 1, "the proof is of another version")
    return proof


def check_clip(path, key, spool):
    proof = read_proof(path + ".proof", key)
    with open(path, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    need(found == proof["sha256"], f"the file is not the one that was signed: SHA-256 {found}")
    need(proof["spool"]["whole"], "its spool was damaged when the file was made")
    print(f"the file is as the node made it of spool {proof['spool']['name']}: {proof['frames']} pictures")
    if spool is None:
        print("its spool was not given: nothing is shown about the original pictures")
        return
    shown = check_spool(read_spool(spool), key)
    named = proof["spool"]
    same = (named.get("first_link"), named.get("last_link"), named["frames"]) == (
        shown["first_link"], shown["last_link"], shown["frames"])
    need(same, "the spool is not the one that the file was made of")
    need(proof["frames"] + len(proof["skipped"]) == shown["frames"], "the file has other pictures than the spool")
    whole(shown)
    print(f"the spool is gapless and unaltered: {shown}")


def main():
    parser = argparse.ArgumentParser(description="Checks signed recordings of Meerkat.")
    parser.add_argument("file", help="folder of a spool, its file `frames`, or an MP4")
    parser.add_argument("--key", required=True, help="public key: PEM file or 64 hexadecimal digits")
    parser.add_argument("--spool", help="the spool that the MP4 was made of")
    options = parser.parse_args()
    key = read_key(options.key)
    try:
        if options.file.endswith(".mp4"):
            check_clip(options.file, key, options.spool)
        else:
            shown = check_spool(read_spool(options.file), key)
            whole(shown)
            need(shown["finished"] and shown["signed_frames"] == shown["frames"], f"the recording was cut off: {shown}")
            print(f"gapless and unaltered: {shown}")
    except (Fault, KeyError, ValueError, struct.error) as fault:
        print(f"not proven: {fault}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
