# SPDX-License-Identifier: Apache-2.0
"""Mutations without guidance, for short runs where no fuzzer is installed."""

import random
from collections.abc import Sequence

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63)
_DIGITS = b"0123456789-.:[]{},\"' \n"


def mutated(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """One to four changes to an input: bytes, numbers, digits, cuts, repeats, a splice."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.randint(1, 4)):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(_NUMBERS) & (256**size - 1)
            data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 2:
            data[at : at + 1] = bytes([rng.choice(_DIGITS)])
        elif kind == 3:
            del data[at : at + rng.randint(1, 16)]
        elif kind == 4:
            data[at:at] = data[at : at + rng.randint(1, 64)]
        elif kind == 5:
            del data[at:]
        else:
            other = rng.choice(corpus)
            data[at:] = other[min(at, len(other)) :]
    return bytes(data)
