"""What a release is: ``manifest.json`` as frozen Structs.

A release is a directory::

    manifest.json     this
    golden.npz        samples with the answers that a correct device gives (self-test after an update)
    profile.npz       the reference for drift: inputs once, outputs per variant and how good these were, per baseline
    variants/         *.onnx, *.tflite
    card.md, report.html

Unknown fields are ignored, so an older device reads a newer minor format; a change that an older device must not
ignore raises ``FORMAT``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from shared.errors import UNREADABLE, DigestError, ManifestError
from shared.files import inside, sha256_file, write_atomic
from shared.pipeline.spec import Pipeline
from shared.topics import NAME_PATTERN

FORMAT = 1
MANIFEST_NAME = "manifest.json"
MANIFEST_MAX_BYTES = 1 << 20
FILE_MAX_BYTES = 1 << 30

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]


class FileReference(Struct, frozen=True):
    """A file of the release: its path inside the directory, size and digest."""

    path: str
    bytes: Annotated[int, Meta(ge=0, le=FILE_MAX_BYTES)]
    sha256: Sha256

    def verify(self, release: Path) -> Path:
        """The file's path under ``release``, after checking size and digest.

        Raises:
            DigestError: the file is missing or another one than the manifest names.
        """
        path = inside(release, self.path)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DigestError(f"{path}: missing from the release ({error.strerror})") from error
        if size != self.bytes:
            raise DigestError(f"{path}: {size} bytes, but the manifest says {self.bytes}; the file is damaged")
        if sha256_file(path) != self.sha256:
            raise DigestError(f"{path}: SHA-256 differs from the manifest; the file is damaged or was swapped")
        return path


class TensorSpec(Struct, frozen=True):
    """One input or output tensor of a variant's model file.

    ``name`` is the role (``input``, ``logits``, ``scores``, ``embedding``), in the order of the file's signature;
    backends go by the file's own names where they are the same, else by position.
    ``shape`` has ``None`` for a dynamic dimension. ``scale`` and ``zero_point`` are set for quantized tensors, with
    real = scale * (stored - zero_point). ``batch``: axis 0 counts samples; else the tensor is passed whole (a scalar, a
    state, a file made for exactly one sample).
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    scale: float | None = None
    zero_point: int | None = None
    batch: bool = True


class SampleSpec(Struct, frozen=True):
    """One input of ``Engine.infer``: a sample as the sensor gives it, before preprocessing.

    ``dtype`` is numpy's name, or ``str`` for text. -1 in ``shape`` means any size.
    """

    dtype: str
    shape: tuple[Annotated[int, Meta(ge=-1)], ...]
    kind: str = "tensor"  # "image" (H, W) or (H, W, C) | "tensor" | "row" | "window" | "text"
    columns: tuple[str, ...] = ()
    name: str = "input"

    @property
    def fixed(self) -> bool:
        """Whether every sample is numbers of one shape."""
        return self.dtype != "str" and -1 not in self.shape


class StatePair(Struct, frozen=True):
    """A tensor that the model hands itself from call to call: ``output`` becomes ``input``, which begins as zeros."""

    input: str
    output: str


class Variant(Struct, frozen=True):
    """One runnable form of the student.

    ``id`` is ``<precision>-<runtime>``, e.g. ``int8-litert``. A classifier's ``outputs`` are named ``logits`` and,
    where it has one, ``embedding``; others keep the file's names. ``quality`` was measured through
    ``edge_agent.Engine`` on held-out data.
    """

    id: Name
    runtime: str  # "onnxruntime" | "litert"
    precision: str  # "fp32" | "fp16" | "int8"
    student: str
    file: FileReference
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    macs: Count
    quality: dict[str, float]
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    meant_for: tuple[str, ...] = ()  # machine architectures; empty: any


class DriftPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """How a device watches this release. The promise: on a stream like the reference, at most one false alarm in
    ``false_alarm_every`` samples on average, and in as many truths. ``minimum_effect`` is what a change must have for
    an alarm: as PSI of a scalar; times 0.1 as accuracy lost, or as share of samples more than usual without an answer;
    times 0.5 as growth of the mean absolute error."""

    false_alarm_every: Annotated[int, Meta(ge=100)] = 1_000_000
    window: Annotated[int, Meta(ge=1, le=4096)] = 32
    tolerance: Annotated[float, Meta(ge=0)] = 0.0
    replaced: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    minimum_effect: Annotated[float, Meta(ge=0)] = 0.2


class Baseline(Struct, frozen=True):
    """A named reference in profile.npz. ``devices`` lists who uses it; the one named ``default`` is everyone else's."""

    name: Name
    devices: tuple[str, ...] = ()


class Lineage(Struct, frozen=True):
    """Where a release comes from."""

    data_sha256: Sha256
    config_sha256: Sha256
    code_version: str
    seed: int
    parent: int | None = None
    note: str = ""


class Manifest(Struct, frozen=True):
    """A release. ``version`` is one integer that only ever grows; ``name`` is the model."""

    format: int
    name: Name
    version: Positive
    task: str  # "image-classification", "classification", "regression", "detection", "anomaly", "forecast", ..., "raw"
    sample: SampleSpec
    pipeline: Pipeline
    labels: tuple[str, ...]
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1, max_length=64)]
    golden: FileReference | None  # None only for a bare file, which is no release
    profile: FileReference | None  # None: a device learns its baseline from its first answers
    lineage: Lineage
    created: str  # RFC 3339, UTC
    drift: DriftPolicy = DriftPolicy()
    baselines: tuple[Baseline, ...] = (Baseline("default"),)
    documents: tuple[FileReference, ...] = ()
    extra_inputs: tuple[SampleSpec, ...] = ()  # what the model takes beside ``sample``; they bypass the pipeline
    state: tuple[StatePair, ...] = ()

    @property
    def signature(self) -> tuple[SampleSpec, ...]:
        """Everything that a caller gives for one answer."""
        return (self.sample, *self.extra_inputs)

    def variant(self, variant_id: str) -> Variant:
        """The variant called ``variant_id``.

        Raises:
            ManifestError: there is none; the message lists those there are.
        """
        for variant in self.variants:
            if variant.id == variant_id:
                return variant
        raise ManifestError(
            f"release {self.name}/{self.version} has no variant {variant_id!r}; it has "
            + ", ".join(variant.id for variant in self.variants)
        )

    def baseline_of(self, device: str) -> str:
        """Name of the baseline that ``device`` is compared with."""
        return next((b.name for b in self.baselines if device in b.devices), "default")

    def files(self) -> tuple[FileReference, ...]:
        """Every file but the manifest itself."""
        own = (file for file in (self.golden, self.profile) if file is not None)
        return (*own, *(v.file for v in self.variants), *self.documents)


def decode_manifest(data: bytes, *, where: str = MANIFEST_NAME) -> Manifest:
    """Parse manifest bytes.

    Raises:
        ManifestError: too big, not JSON, a wrong field, an unknown format, or file names that leave the release.
    """
    if len(data) > MANIFEST_MAX_BYTES:
        raise ManifestError(f"{where}: {len(data)} bytes; at most {MANIFEST_MAX_BYTES} are allowed")
    try:
        found = msgspec.json.decode(data, type=_Format).format
        if found != FORMAT:
            raise ManifestError(f"{where}: format {found}, but this version of sanderling reads format {FORMAT}")
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(f"{where}: {error}") from error
    except UNREADABLE as error:
        raise ManifestError(f"{where}: damaged or cut short ({error}); fetch the release again") from error
    ids = [variant.id for variant in manifest.variants]
    if len(set(ids)) != len(ids):
        raise ManifestError(f"{where}: variant ids must differ, got {', '.join(ids)}")
    return manifest


class _Format(Struct):
    format: int


def load_manifest(release: Path) -> Manifest:
    """Read ``release/manifest.json``; files it names are checked when they are used (``FileReference.verify``).

    Raises:
        ManifestError: it is missing or wrong.
    """
    path = release / MANIFEST_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MANIFEST_MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}: not a release directory ({error.strerror})") from error
    return decode_manifest(data, where=str(path))


def encode_manifest(manifest: Manifest) -> bytes:
    """Canonical bytes: indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def save_manifest(manifest: Manifest, release: Path) -> Path:
    """Write ``release/manifest.json`` atomically and return its path. Write it last: it makes the release whole."""
    path = release / MANIFEST_NAME
    write_atomic(path, encode_manifest(manifest))
    return path


def reference_file(release: Path, name: str) -> FileReference:
    """The :class:`FileReference` of an existing file ``name`` of ``release``."""
    path = inside(release, name)
    return FileReference(path=name, bytes=path.stat().st_size, sha256=sha256_file(path))
