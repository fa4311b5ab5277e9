"""Images in folders, one folder for each class; through Pillow (extra ``image``) and the agent's own reader, so that
the trainer sees the very pixels that a device reads from such a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.config import TaskConfig
from cloud_trainer.data.dataset import Dataset
from cloud_trainer.data.findings import Finding
from cloud_trainer.data.folders import complete, find_files, group_array
from cloud_trainer.data.loaded import MAX_BYTES, Loaded
from cloud_trainer.data.skipped import skipped
from edge_agent.readers.base import ReadOptions
from edge_agent.readers.images import DEEP, PIXELS_MAX, SUFFIXES, ImageReader
from shared.errors import ConfigError, DataError, MissingExtraError
from shared.manifest import SampleSpec

GREY = frozenset({"1", "L", "LA"})
CHUNK = 64


def load_images(root: Path, task: TaskConfig) -> Loaded:
    """``x`` (n, H, W) uint8 if every image is grey, else (n, H, W, 3) RGB; all of ``data.image_size``, or of the size
    that most have. Files that cannot be read are skipped, up to a tenth.

    Raises:
        MissingExtraError: Pillow is not installed.
        UsageError: there is no such directory.
        DataError: a class is empty, too many files cannot be read, or all is more than fits in memory.
    """
    config = task.data
    if config.image_size and len(config.image_size) != 2:
        raise ConfigError(f"data.image_size: expected (height, width), got {config.image_size}")
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reading images", "image") from error
    files = find_files(root, config, SUFFIXES, "images")
    sizes: dict[int, tuple[int, int]] = {}
    modes: Counter[str] = Counter()
    bad: dict[int, str] = {}
    for i, path in enumerate(files.paths):
        try:
            sizes[i], mode = _header(path)
            modes[mode] += 1
        except DataError as error:
            bad[i] = str(error)
    _check_bad(root, files.paths, bad)
    counts = Counter(sizes.values())
    size = config.image_size or most_common(counts)
    grey = not set(modes) - GREY - set(DEEP)
    shape = tuple(size) if grey else (*size, 3)
    if (total := len(sizes) * int(np.prod(shape))) > MAX_BYTES:
        raise DataError(
            f"{root}: {len(sizes)} images of {size[0]} x {size[1]} are {total >> 20} MiB, more than fits in memory; "
            "set data.image_size to less"
        )
    good = np.array(sorted(sizes), np.intp)
    x, broken = _read([files.paths[i] for i in good], shape)
    bad |= {int(good[i]): why for i, why in broken.items()}
    findings = [*files.findings, *_check_bad(root, files.paths, bad)]
    kept = np.array([i for i in good if int(i) not in bad], np.intp)
    y = complete(files, kept, root)
    findings += _about(counts, tuple(size), modes, grey=grey, where=str(root))
    return Loaded(Dataset(x, y, files.labels, (), group_array(files, kept)), tuple(findings))


def most_common(counts: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The size that most images have, of several the smallest.

    >>> most_common(Counter({(8, 8): 2, (4, 4): 2, (16, 16): 1}))
    (4, 4)
    """
    return min(counts, key=lambda size: (-counts[size], size))


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """(height, width) and mode.

    Raises:
        DataError: it is no image that can be read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.width * image.height > PIXELS_MAX:
                raise DataError(f"{image.width} x {image.height} pixels are too many")
            grey = image.mode == "P" and (image.getpalette() or [0])[::3] == (image.getpalette() or [0])[1::3]
            return (image.height, image.width), "L" if grey else image.mode
    except UnidentifiedImageError as error:
        raise DataError("no image that can be read") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(str(error).split("\n")[0] or type(error).__name__) from error


def _read(paths: list[Path], shape: tuple[int, ...]) -> tuple[NDArray[Any], dict[int, str]]:
    """Images (m, *shape) uint8 that can be read, and why the others cannot."""
    spec = SampleSpec("uint8", shape)
    reader = ImageReader(paths, [str(path) for path in paths], (spec,), ReadOptions(resize=True))
    x = np.empty((len(paths), *shape), np.uint8)
    bad: dict[int, str] = {}
    count = 0
    for chunk in reader.read(CHUNK):
        for row in chunk.bad:
            bad[chunk.start + row.position] = row.text.removeprefix(f"{paths[chunk.start + row.position]}: ")
        if chunk.samples is not None:
            samples = np.asarray(chunk.samples)
            x[count : count + len(samples)] = samples
            count += len(samples)
    return x[:count], bad


def _check_bad(root: Path, paths: tuple[Path, ...], bad: dict[int, str]) -> tuple[Finding, ...]:
    return skipped(str(root), "image", [(str(paths[i]), bad[i]) for i in sorted(bad)], len(paths))


def _about(
    counts: Counter[tuple[int, int]], size: tuple[int, ...], modes: Counter[str], *, grey: bool, where: str
) -> list[Finding]:
    findings = []
    total = counts.total()
    other = total - counts[size[0], size[1]]
    if other:
        text = (
            f"{other} of {total} images are of another size (there are {len(counts)}): brought to {size[0]} x {size[1]}"
        )
        findings.append(Finding("image sizes", "warning", text, where))
    some_grey = sum(modes[mode] for mode in GREY)
    if not grey and some_grey:
        text = f"{some_grey} of {total} images are grey, the others in colour: all are taken as colour"
        findings.append(Finding("image colours", "warning", text, where))
    return findings
