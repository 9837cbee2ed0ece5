#!/usr/bin/env python3
"""Writes segment_v1_sealed.bin and segment_v1_open.bin: the segments of one small log.

It follows log/FORMAT.md and shares no code with log/, except for libxxhash. The files were written once and never
change; golden_segment_test.cc says what is in them.
"""
import ctypes
import ctypes.util
import pathlib
import struct

XXHASH = ctypes.CDLL(ctypes.util.find_library("xxhash"))
XXHASH.XXH3_64bits_withSeed.restype = ctypes.c_uint64
XXHASH.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]

COMMAND, BARRIER, CONFIGURATION, VOTE, TRUNCATE, SNAPSHOT, SEAL = 1, 2, 3, 16, 17, 18, 19
CLUSTER, SHARD = 0x0102030405060708, 5
INCARNATIONS = {1: 0x02039FD13225AF54, 2: 0x51D15F80FA3C9B0C}  # given to the log as a seed


def xxh3(data, seed=0):
    return XXHASH.XXH3_64bits_withSeed(bytes(data), len(data), seed)


class Segment:
    def __init__(self, sequence, position, index, term_before, vote):
        head = b"TDMKSEG1" + struct.pack("<IIQHHIQQQQQQQ", 1, 4096, CLUSTER, SHARD, 0, 0, sequence, position, index,
                                         term_before, vote[0], vote[1], INCARNATIONS[sequence])
        head = head.ljust(4088, b"\0")
        self.seed = xxh3(head)
        self.bytes = head + struct.pack("<Q", self.seed)

    def add(self, kind, term, index, position, synced_to, payload=b""):
        def header(check):
            return struct.pack("<IBBHQQQQ", len(payload), kind, 0, check, term, index, position, synced_to)
        h = xxh3(header(0), self.seed)
        self.bytes += header(h & 0xFFFF) + struct.pack("<Q", xxh3(payload, h)) + payload
        self.bytes += b"\0" * (-len(payload) % 8)

    def seal(self, term, index, position, synced_to, payload):
        at = len(self.bytes)
        self.add(SEAL, term, index, position, synced_to, payload)
        head = b"TDMKSEAL" + struct.pack("<IIQQ", 1, 64, at, len(self.bytes) + 64)
        head = head.ljust(56, b"\0")
        self.bytes += head + struct.pack("<Q", xxh3(head, self.seed))


def main():
    folder = pathlib.Path(__file__).parent
    snapshot = struct.pack("<QQQQII", 2, 2, 136, 1, 3, 4) + b"\x01\x02\x03" + b"snap"

    one = Segment(1, 0, 1, 0, (0, 0))
    one.add(CONFIGURATION, 1, 1, 0, 4096, bytes(range(24)))         # 4096, log position 0 to 72
    one.add(VOTE, 1, 1, 72, 4168, struct.pack("<QQ", 2, 1))         # 4168
    one.add(COMMAND, 2, 2, 72, 4232, b"hello, log!!!")              # 4232, 72 to 136
    one.add(BARRIER, 2, 3, 136, 4296)                               # 4296, 136 to 184, voided next
    one.add(TRUNCATE, 2, 3, 184, 4344, struct.pack("<QQQ", 3, 136, 2))  # 4344
    one.add(COMMAND, 3, 3, 136, 4416, b"again")                     # 4416, 136 to 192
    one.add(SNAPSHOT, 3, 3, 192, 4472, snapshot)                    # 4472
    rows = [(0, 4096), (72, 4232), (136, 4416), (192, 4568)]
    runs = [(1, 1), (2, 2), (3, 3)]
    payload = struct.pack("<QQQQQQQQQQQII", 192, 3, 3, 1, 0, 4, 3, 0, 0, 0, 0, len(rows), len(runs))
    for pair in rows + runs:
        payload += struct.pack("<QQ", *pair)
    one.seal(3, 3, 192, 4568, payload)
    (folder / "segment_v1_sealed.bin").write_bytes(one.bytes)

    two = Segment(2, 192, 4, 3, (2, 1))
    two.add(SNAPSHOT, 3, 3, 192, 4096, snapshot)
    two.add(COMMAND, 3, 4, 192, 4192, bytes(i * 7 & 0xFF for i in range(12000)))
    (folder / "segment_v1_open.bin").write_bytes(two.bytes)


if __name__ == "__main__":
    main()
