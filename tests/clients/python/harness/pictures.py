"""PNG pictures, made here so that no test needs a file, and the heads of those that come back."""

import base64
import struct
import zlib


def png(width: int = 64, height: int = 64) -> bytes:
    """An RGB picture with a gradient, so that no two parts are alike."""
    rows = b"".join(
        b"\0" + b"".join(bytes((x * 255 // width, y * 255 // height, (x ^ y) * 4 & 255)) for x in range(width))
        for y in range(height)
    )

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def decoded(uri: str) -> bytes:
    """The bytes behind a data URI."""
    return base64.b64decode(uri.split(",", 1)[1], validate=True)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height of a JPEG that begins and ends as one."""
    assert data[:3] == b"\xff\xd8\xff" and data[-2:] == b"\xff\xd9", "no whole JPEG"
    at = 2
    while not 0xC0 <= data[at + 1] <= 0xC3:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    height, width = struct.unpack(">HH", data[at + 5 : at + 9])
    return width, height
