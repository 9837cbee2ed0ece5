#!/usr/bin/env python3
"""Writes schedule_set_v1.bin from the tables in log/FORMAT.md and log/format/record_batch.h alone.

It shares no code with the program. The file never changes: what is stored today must be read by every later version.
"""
import pathlib
import struct


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    bits = (value << 1) ^ (value >> 63)
    bits &= (1 << 64) - 1
    out = bytearray()
    while bits >= 0x80:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)


def field(value) -> bytes:
    return varint(-1) if value is None else varint(len(value)) + value


def batch(timestamp: int, key, value, headers=()) -> bytes:
    body = b"\0" + varint(0) + varint(0) + field(key) + field(value) + varint(len(headers))
    for name, content in headers:
        body += field(name) + field(content)
    records = varint(len(body)) + body
    covered = struct.pack(">hiqqqhii", 0, 0, timestamp, timestamp, -1, -1, -1, 1) + records
    rest = struct.pack(">ibI", 0, 2, crc32c(covered)) + covered
    return struct.pack(">qi", 0, len(rest)) + rest


def item(due_kind: int, due: int, body: bytes, key=b"", replace=False, recurrence=b"") -> bytes:
    extension = (bytes([len(key)]) + key if key else b"") + recurrence
    flags = (1 if key else 0) | (2 if replace else 0) | (4 if recurrence else 0)
    size = 16 + len(extension) + len(body)
    return struct.pack("<IBBHq", size, due_kind, flags, len(extension), due) + extension + body


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


BASE_MS = 1_700_000_000_000
items = [
    item(0, 90_000, batch(BASE_MS, None, b"in a minute and a half")),
    item(1, BASE_MS + 86_400_000, batch(BASE_MS + 1, b"key", b"tomorrow", [(b"h", b"v"), (b"absent", None)]), b"order-17"),
    item(0, 0, batch(BASE_MS + 2, b"", None), b"k" * 255, replace=True),
    item(0, 60_000, batch(BASE_MS + 3, None, b"every minute"), recurrence=b"\x01" + struct.pack("<qq", 0, 60_000)),
    item(0, 0, batch(BASE_MS + 4, None, b"workdays at nine"), b"report",
         recurrence=b"\x02" + struct.pack("<q", 0) + short(b"Europe/Berlin") + short(b"0 0 9 * * 1-5")),
]
header = struct.pack("<IIqQqhHiI", 7, 3, 0, 0, 4242, 1, 0, 1000, len(items))
rest = b"".join(items)
check = crc32c(header + b"\0\0\0\0" + rest)
path = pathlib.Path(__file__).with_name("schedule_set_v1.bin")
path.write_bytes(header + struct.pack("<I", check) + rest)
