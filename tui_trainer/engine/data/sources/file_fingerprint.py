"""A short name for the content of a file, made without reading all of it."""

from __future__ import annotations

import xxhash

from tui_trainer.engine.data.sources.content import unreadable
from tui_trainer.engine.data.sources.recognise import DataFile

_SAMPLE_BYTES = 1 << 16


def file_fingerprint(file: DataFile) -> str:
    """Changes when the file is written: made of its size, its time, and its first and last bytes.

    The path is no part of it, so a file that was moved keeps it.
    """
    digest = xxhash.xxh3_128()
    digest.update(f"{file.kind} {file.size} {file.modified}".encode())
    try:
        with file.path.open("rb") as stream:
            digest.update(stream.read(_SAMPLE_BYTES))
            stream.seek(max(file.size - _SAMPLE_BYTES, 0))
            digest.update(stream.read(_SAMPLE_BYTES))
    except OSError as error:
        raise unreadable(file.path, error) from None
    return digest.hexdigest()
