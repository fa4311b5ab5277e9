"""Image files, one sample each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.readers.base import Array, Chunk, Reader, ReadOptions, Samples, assemble, check_paths
from edge_agent.readers.convert import shape_text
from shared.errors import InputError, MissingExtraError, UsageError
from shared.manifest import SampleSpec

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
DEEP = ("I", "I;16", "I;16B", "F")
"""Pillow's modes of more than 8 bits."""
PIXELS_MAX = 1 << 28
"""An image that unpacks to more is refused before it is."""


class ImageReader(Reader):
    """Image files in the order given. Grey and colour are converted to what the model takes, size is not, unless
    ``options.resize`` asks for it: where the model takes any size, its pipeline resizes.

    A sample (H, W) or (H, W, 1) is grey, (H, W, 3) RGB, (H, W, 4) RGBA, (3, H, W) or (1, H, W) the same with channels
    first. Pixels lie as in the file; its orientation mark is not applied.
    """

    def __init__(
        self, paths: Sequence[Path], ids: Sequence[str], signature: Sequence[SampleSpec], options: ReadOptions
    ) -> None:
        if len(signature) > 1:
            raise InputError(f"{paths[0]}: an image, but the model takes {len(signature)} inputs")
        spec = signature[0]
        self._axis, self._mode = _layout(spec, paths[0])
        self._spec = spec
        if np.dtype(spec.dtype).kind == "f" and options.pixels is None:
            raise UsageError(
                f"{paths[0]}: the model takes {spec.dtype} images; say with --pixels 255 or --pixels 1 what white is"
            )
        try:
            import PIL.Image  # noqa: F401  (here, so that the first image is not where it fails)
        except ImportError as error:
            raise MissingExtraError("reading images", "image") from error
        check_paths(paths)
        self._paths, self._ids, self._options = paths, ids, options
        self.rows = len(paths)

    def read(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Chunks; skipped files are not opened."""
        at = start
        while at < len(self._paths):
            stop = min(at + size - at % size, len(self._paths))
            rows: list[Samples | str] = []
            for path in self._paths[at:stop]:
                try:
                    rows.append(self._array(path))
                except InputError as error:
                    rows.append(f"{path}: {error}")
            yield from assemble(at, list(self._ids[at:stop]), rows)
            at = stop

    def _array(self, path: Path) -> Array:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                if image.width * image.height > PIXELS_MAX:
                    raise InputError(f"{image.width} x {image.height} pixels are too many")
                array = np.asarray(self._fitted(self._converted(image)))
        except UnidentifiedImageError as error:
            raise InputError("no image that can be read") from error
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(str(error) or type(error).__name__) from error
        return self._values(array)

    def _converted(self, image: Image) -> Image:
        if image.mode in DEEP:
            if self._mode != "L" or self._spec.dtype == "uint8":
                raise InputError(f"has more than 8 bits a pixel ({image.mode}), but the model takes {self._spec.dtype}")
            return image
        return image if image.mode == self._mode else image.convert(self._mode)

    def _fitted(self, image: Image) -> Image:
        shape = self._spec.shape
        wanted = [size for i, size in enumerate(shape) if i != self._axis]
        found = (image.height, image.width)
        if all(want in {-1, got} for want, got in zip(wanted, found, strict=True)):
            return image
        if not self._options.resize:
            raise InputError(
                f"is {image.height} x {image.width} (H x W), but the model takes {shape_text(self._spec)}; "
                "--resize makes it fit"
            )
        from PIL.Image import Resampling

        height, width = (got if want < 0 else want for want, got in zip(wanted, found, strict=True))
        return image.resize((width, height), Resampling.BILINEAR)

    def _values(self, array: Array) -> Array:
        if self._axis is not None:
            array = array[..., None] if array.ndim == 2 else array
            array = np.moveaxis(array, -1, self._axis)
        dtype = np.dtype(self._spec.dtype)
        if dtype.kind == "f":
            white = 255 if array.dtype == np.uint8 else 65535 if array.dtype == np.uint16 else 1
            scaled: Array = array.astype(dtype) * dtype.type((self._options.pixels or 1) / white)
            return np.ascontiguousarray(scaled)
        made: Any = array.astype(dtype)
        if not (made == array).all():
            raise InputError(f"has pixels that {dtype.name} cannot hold")
        contiguous: Array = np.ascontiguousarray(made)
        return contiguous


def _layout(spec: SampleSpec, path: Path) -> tuple[int | None, str]:
    """Axis of the channels, if there is one, and Pillow's mode."""
    shape = spec.shape
    if spec.dtype != "str":
        if len(shape) == 2:
            return None, "L"
        if len(shape) == 3:
            for axis in (2, 0):
                if shape[axis] in MODES:
                    return axis, MODES[shape[axis]]
            if shape[2] == -1:
                return 2, "RGB"
    raise InputError(f"{path}: an image, but the model takes {spec.dtype} of shape {shape_text(spec)}")
