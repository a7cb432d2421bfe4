"""Explanations of files that cannot be decoded, and removal of PNG chunks that may prevent decoding."""

from __future__ import annotations

import struct

_BEGINNINGS = (
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS, not the file: run `git lfs pull`"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"), (b"%PDF-", "a PDF"), (b"8BPS", "a Photoshop file"), (b"\0\0\1\0", "an icon"),
    (b"\x1f\x8b", "compressed by gzip: unpack it"), (b"PK\3\4", "a ZIP archive: unpack it"),
    (b"\x93NUMPY", "a NumPy array"), (b"\x89HDF", "an HDF5 file"), (b"\xd0\xcf\x11\xe0", "an Office file"),
    (b"\0\5\x16\7", "what macOS keeps beside a file (AppleDouble)"), (b"\0\0\0\1Bud1", "what macOS's Finder left"),
)  # fmt: skip
_TEXTS = ((b"<!doctype html", "a web page"), (b"<html", "a web page"), (b"<svg", "an SVG drawing"))
_TIFF = (b"II*\0", b"MM\0*")
_SAMPLES, _BITS, _FORMAT = 277, 258, 339
_PNG = b"\x89PNG\r\n\x1a\n"
_REMARKS = {b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"tIME", b"sPLT"}
"""Chunks of a PNG that describe the image and do not affect its pixels."""


def name_of(content: bytes) -> str | None:
    """Return a description of a file that is not a supported image, by its content; None if it is not recognised."""
    if content[128:132] == b"DICM":
        return "DICOM, a medical format: convert it"
    if content.startswith(_TIFF):
        return _tiff(content)
    start = content[:1024].lstrip().lower()
    kind = next((name for beginning, name in _BEGINNINGS if content.startswith(beginning)), None)
    if kind is None and not any(content[:4096]):
        return "nothing but zeros"
    if kind is None and start.startswith((b"<", b"\xef\xbb\xbf<")):
        kind = next((name for text, name in _TEXTS if text in start), None)
    return kind


def _tiff(content: bytes) -> str | None:
    """Return a description of a TIFF's channels from its first directory (12-byte entries: tag, type, count, value)."""
    order = "<" if content.startswith(b"II") else ">"
    try:
        (place,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, place)
        entries = {}
        for index in range(count):
            tag, kind, number, value = struct.unpack_from(f"{order}HHII", content, place + 2 + 12 * index)
            if tag in {_SAMPLES, _BITS, _FORMAT} and kind == 3:  # 16 bits each, in place if there are at most two
                at = value if number > 2 else place + 10 + 12 * index
                entries[tag] = struct.unpack_from(f"{order}H", content, at)[0]
    except struct.error:
        return None
    kinds = {2: "signed whole numbers", 3: "floating-point numbers"}
    numbers = kinds.get(entries.get(_FORMAT, 1), "whole numbers")
    return f"a TIFF of {entries.get(_SAMPLES, 1)} channels of {entries.get(_BITS, 1)} bits, {numbers}"


def without_remarks(content: bytes) -> bytes | None:
    """Return a PNG without its text, colour profile and time chunks, which may be damaged or huge; else None."""
    if not content.startswith(_PNG):
        return None
    kept, place = [_PNG], len(_PNG)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        if content[place + 4 : place + 8] not in _REMARKS:
            kept.append(content[place : place + 12 + length])
        place += 12 + length
    whole = b"".join(kept)
    return whole if len(whole) < len(content) else None
