"""CRC-32C (Castagnoli, RFC 3720 B.4), as leveldb tables and TensorFlow's checkpoints carry it, at numpy's speed.

A CRC is linear over GF(2). The bytes are cut into lanes that lie side by side in a matrix, each lane's remainder is
computed by table, all lanes at once, and remainders are joined by the matrix that shifts one past the next's length.
"""

from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with its bits reversed
_LANE_WORDS = 1024
"""16-bit words of a lane: 1 MiB is 512 lanes, enough to keep numpy busy."""
_CHUNK_LANES = 1 << 14
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | memoryview | np.ndarray) -> int:
    """Return the CRC-32C of a buffer's bytes."""
    words = np.frombuffer(data, np.uint8)
    register = 0xFFFFFFFF
    lane = 2 * _LANE_WORDS
    whole = len(words) // lane
    for start in range(0, whole, _CHUNK_LANES):
        lanes = words[start * lane : min(whole, start + _CHUNK_LANES) * lane].view("<u2").reshape(-1, _LANE_WORDS)
        for remainder in _remainders(lanes).tolist():
            register = _apply(_lane_shift(), register) ^ remainder
    table = _byte_table().tolist()
    for byte in words[whole * lane :].tolist():
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview | np.ndarray) -> int:
    """Return the CRC as leveldb and TensorFlow store it: rotated and shifted, so that a CRC of CRCs stays sound."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _remainders(lanes: np.ndarray) -> np.ndarray:
    """Return each row's remainder from a register of zeros."""
    table = _word_table()
    register = np.zeros(len(lanes), np.uint32)
    for words in np.ascontiguousarray(lanes.T):
        register = table[(register ^ words) & 0xFFFF] ^ (register >> 16)
    return register


@functools.cache
def _byte_table() -> np.ndarray:
    register: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        register = (register >> 1) ^ np.where(register & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return register


@functools.cache
def _word_table() -> np.ndarray:
    table = _byte_table()
    first = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(2):
        first = table[first & 0xFF] ^ (first >> 8)
    return first


@functools.cache
def _lane_shift() -> tuple[tuple[int, ...], ...]:
    """Return four tables, one a byte of the register: what it becomes past one lane of zeros."""
    register = np.concatenate([np.arange(256, dtype=np.uint32) << (8 * place) for place in range(4)])
    table = _word_table()
    for _ in range(_LANE_WORDS):
        register = table[register & 0xFFFF] ^ (register >> 16)
    return tuple(tuple(part) for part in register.reshape(4, 256).tolist())


def _apply(tables: tuple[tuple[int, ...], ...], register: int) -> int:
    return (tables[0][register & 0xFF] ^ tables[1][(register >> 8) & 0xFF] ^ tables[2][(register >> 16) & 0xFF]
            ^ tables[3][register >> 24])
