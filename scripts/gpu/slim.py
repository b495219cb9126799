#!/usr/bin/env python3
"""Blanks the machine code of all but one GPU architecture in ONNX Runtime's CUDA provider, so that it compresses to a fifth.

    python slim.py libonnxruntime_providers_cuda.so SLIM.so 90

For private measurements only: do not hand the result on. Sizes and headers stay, so the driver's loader skips what is blank."""
import struct
import sys

REGION, HEADER = b"\x50\xed\x55\xba", 16


def section(data, wanted):
    """(offset, size) of a section of an ELF file."""
    table, = struct.unpack_from("<Q", data, 0x28)
    entry, number, names = struct.unpack_from("<HHH", data, 0x3A)
    heads = [struct.unpack_from("<IIQQQQIIQQ", data, table + index * entry) for index in range(number)]
    strings = heads[names][4]
    for head in heads:
        start = strings + head[0]
        if data[start:data.index(0, start)] == wanted:
            return head[4], head[5]
    sys.exit(f"slim: the library has no section {wanted.decode()}: is it the CUDA provider?")


def slim(data, keep):
    """Blanks in place; gives bytes kept and bytes blanked."""
    at, size = section(data, b".nv_fatbin")
    end, kept, blanked = at + size, 0, 0
    while at < end - HEADER:
        if data[at:at + 4] != REGION:
            at += 8
            continue
        head, payload = struct.unpack_from("<HQ", data, at + 6)
        entry, stop = at + head, at + head + payload
        while entry < stop:
            before, = struct.unpack_from("<I", data, entry + 4)
            length, = struct.unpack_from("<Q", data, entry + 8)
            architecture, = struct.unpack_from("<I", data, entry + 28)
            if architecture == keep:
                kept += length
            else:
                data[entry + before:entry + before + length] = bytes(length)
                blanked += length
            entry += before + length
        at = stop
    return kept, blanked


def main(source, target, keep):
    with open(source, "rb") as file:
        data = bytearray(file.read())
    kept, blanked = slim(data, int(keep))
    if not kept:
        sys.exit(f"slim: the library has no code for sm_{keep}")
    with open(target, "wb") as file:
        file.write(data)
    print(f"slim: kept {kept / 1e6:.0f} MB for sm_{keep}, blanked {blanked / 1e6:.0f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:4])
