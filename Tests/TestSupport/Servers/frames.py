"""Bodies with an ID and known bytes: pf|ID|LENGTH| and that many bytes of a pattern."""

import re

HEADER = re.compile(rb"pf\|(\d{1,9})\|(\d{1,9})\|")


def pattern(size=4096):
    """The same pattern as in Frame.swift."""
    state, out = 1, bytearray()
    for _ in range(size):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        out.append(state >> 16 & 0xFF)
    return bytes(out)


SIZE = 4096
PATTERN = pattern(SIZE) * (2 + (1 << 20) // SIZE)


def read(data, position):
    """The ID and the end of the frame that begins there, or None if any byte is wrong."""
    header = HEADER.match(data, position)
    if not header:
        return None
    number, length = int(header[1]), int(header[2])
    start, end = number % SIZE, header.end() + length
    if data[header.end():end] != PATTERN[start:start + length]:
        return None
    return number, end


def whole(data):
    """The ID of a body that is exactly one frame, or None."""
    frame = read(data, 0)
    return frame[0] if frame and frame[1] == len(data) else None


def within(data):
    """The IDs of all frames in a message, or None if there is none or one is damaged."""
    found, position = [], 0
    while (position := data.find(b"pf|", position)) >= 0:
        frame = read(data, position)
        if not frame:
            return None
        number, position = frame
        if b"sample-%d." % number not in data:
            return None
        found.append(number)
    return found or None
