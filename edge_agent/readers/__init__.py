"""Rows of files, in chunks, from any row on.

::

    reader = open_reader(Path("parts.csv"), engine.signature)
    for ids, samples in reader.chunks(1024):
        ...

One file for each kind: ``arrays`` (NPY, NPZ), ``table`` (CSV), ``parquet``, ``text`` (JSON, JSON lines, text),
``images``, ``wav``; ``several`` finds the right one and joins many.
"""

from edge_agent.readers.base import Chunk, Reader, ReadOptions
from edge_agent.readers.several import files_of, open_reader, open_readers

__all__ = ["Chunk", "ReadOptions", "Reader", "files_of", "open_reader", "open_readers"]
