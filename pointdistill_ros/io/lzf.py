# SPDX-License-Identifier: Apache-2.0
"""LZF decompression, as PCL's binary_compressed files need it. Plain Python: about 10 MB/s."""

from __future__ import annotations


def decompress(data: bytes, size: int) -> bytes:
    """Unpack LZF data of known size. Raises ValueError where it is damaged.

    A control byte below 32 announces that many + 1 literal bytes; any other a copy from up to 8 KiB
    back: its top three bits + 2 are the length (7 = a further length byte follows), the low five
    bits and the next byte the distance − 1.
    """
    out = bytearray()
    position, end = 0, len(data)
    try:
        while position < end and len(out) <= size:
            control = data[position]
            position += 1
            if control < 32:
                literal = data[position : position + control + 1]
                if len(literal) != control + 1:
                    raise ValueError("cut short")
                out += literal
                position += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[position]
                position += 1
            length += 2
            start = len(out) - ((control & 31) << 8) - data[position] - 1
            position += 1
            if start < 0:
                raise ValueError("copy from before the beginning")
            repeat = out[start : start + length]
            while len(repeat) < length:  # the copy reaches into what it writes: a repeating pattern
                repeat += repeat[: length - len(repeat)]
            out += repeat
    except IndexError:
        raise ValueError("cut short") from None
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes unpacked, expected {size}")
    return bytes(out)
