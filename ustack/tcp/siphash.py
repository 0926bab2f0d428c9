"""SipHash-2-4 (Aumasson and Bernstein, 2012): what Linux makes Fast Open cookies with.

So that a cookie of one of several servers with the same key is taken by all of them.
"""

MASK64 = (1 << 64) - 1


def _rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & MASK64


def siphash24(key: bytes, data: bytes) -> int:
    """The 64-bit hash of `data` under a key of 16 bytes."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    padded = data + bytes(-(len(data) + 1) % 8) + bytes((len(data) & 0xFF,))
    words = [int.from_bytes(padded[at : at + 8], "little") for at in range(0, len(padded), 8)]
    for word in (*words, None):  # None: the four rounds at the end
        if word is None:
            v2 ^= 0xFF
        else:
            v3 ^= word
        for _ in range(4 if word is None else 2):
            v0 = (v0 + v1) & MASK64
            v1 = _rotated(v1, 13) ^ v0
            v0 = _rotated(v0, 32)
            v2 = (v2 + v3) & MASK64
            v3 = _rotated(v3, 16) ^ v2
            v0 = (v0 + v3) & MASK64
            v3 = _rotated(v3, 21) ^ v0
            v2 = (v2 + v1) & MASK64
            v1 = _rotated(v1, 17) ^ v2
            v2 = _rotated(v2, 32)
        if word is not None:
            v0 ^= word
    return v0 ^ v1 ^ v2 ^ v3
