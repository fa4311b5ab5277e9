"""The manifest survives a round trip, refuses what is wrong, and checks its files."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DigestError, ManifestError, ReleaseError
from shared.files import sha256_bytes
from shared.manifest import (
    FORMAT,
    MANIFEST_MAX_BYTES,
    MANIFEST_NAME,
    Baseline,
    DriftPolicy,
    FileReference,
    Lineage,
    Manifest,
    SampleSpec,
    TensorSpec,
    Variant,
    decode_manifest,
    encode_manifest,
    load_manifest,
    reference_file,
    save_manifest,
)
from shared.pipeline.decode import Argmax, Softmax
from shared.pipeline.encode import AddChannel, Cast
from shared.pipeline.postprocess import Labels, TopK
from shared.pipeline.preprocess import Clip, Resize, Scale, Standardize
from shared.pipeline.spec import Pipeline

names = st.from_regex(r"[a-z0-9_-]{1,64}", fullmatch=True)
numbers = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)
files = st.builds(
    FileReference,
    path=st.from_regex(r"[a-z]{1,8}/[a-z]{1,8}\.[a-z]{1,4}", fullmatch=True),
    bytes=st.integers(0, 1 << 30),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)
tensors = st.builds(
    TensorSpec,
    name=st.sampled_from(["input", "logits", "embedding"]),
    dtype=st.sampled_from(["float32", "int8"]),
    shape=st.lists(st.one_of(st.none(), st.integers(1, 4096)), max_size=4).map(tuple),
    scale=st.one_of(st.none(), positive),
    zero_point=st.one_of(st.none(), st.integers(-128, 127)),
)
pipelines = st.builds(
    Pipeline,
    preprocess=st.lists(
        st.one_of(
            st.builds(Scale, factor=numbers, offset=numbers),
            st.builds(Standardize, mean=st.tuples(numbers), std=st.tuples(positive)),
            st.builds(Clip, low=st.floats(-9, 0), high=st.floats(0, 9)),
            st.builds(Resize, height=st.integers(1, 4096), width=st.integers(1, 4096)),
        ),
        max_size=4,
    ).map(tuple),
    encode=st.lists(st.one_of(st.builds(AddChannel, axis=st.sampled_from([1, -1])), st.just(Cast())), max_size=2).map(
        tuple
    ),
    decode=st.lists(st.one_of(st.builds(Softmax, temperature=positive), st.just(Argmax())), max_size=2).map(tuple),
    postprocess=st.lists(
        st.one_of(
            st.builds(Labels, names=st.lists(st.text(max_size=9), max_size=4).map(tuple)),
            st.builds(TopK, k=st.integers(1, 9)),
        ),
        max_size=2,
    ).map(tuple),
)
variants = st.builds(
    Variant,
    id=names,
    runtime=st.sampled_from(["onnxruntime", "litert"]),
    precision=st.sampled_from(["fp32", "int8"]),
    student=st.text(max_size=20),
    file=files,
    inputs=st.lists(tensors, max_size=2).map(tuple),
    outputs=st.lists(tensors, max_size=2).map(tuple),
    macs=st.integers(0, 1 << 50),
    quality=st.dictionaries(st.text(max_size=9), st.floats(0, 1), max_size=3),
    temperature=positive,
    meant_for=st.lists(st.text(max_size=9), max_size=2).map(tuple),
)
manifests = st.builds(
    Manifest,
    format=st.just(FORMAT),
    name=names,
    version=st.integers(1, 1 << 53),
    task=st.text(max_size=20),
    sample=st.builds(
        SampleSpec,
        dtype=st.sampled_from(["uint8", "float32"]),
        shape=st.lists(st.integers(1, 99), max_size=3).map(tuple),
    ),
    pipeline=pipelines,
    labels=st.lists(st.text(max_size=9), max_size=12).map(tuple),
    variants=st.lists(variants, min_size=1, max_size=3, unique_by=lambda v: v.id).map(tuple),
    golden=files,
    profile=files,
    lineage=st.builds(
        Lineage,
        data_sha256=st.just("0" * 64),
        config_sha256=st.just("f" * 64),
        code_version=st.text(max_size=9),
        seed=st.integers(0, 1 << 53),
        parent=st.one_of(st.none(), st.integers(1, 99)),
    ),
    created=st.text(max_size=20),
    drift=st.builds(DriftPolicy, false_alarm_every=st.integers(100, 1 << 40), window=st.integers(1, 4096)),
    baselines=st.lists(st.builds(Baseline, name=names, devices=st.lists(names, max_size=2).map(tuple)), max_size=3).map(
        tuple
    ),
    documents=st.lists(files, max_size=2).map(tuple),
)


@given(manifests)
def test_bytes_give_the_same_manifest_and_the_same_bytes(manifest):
    data = encode_manifest(manifest)
    assert decode_manifest(data) == manifest
    assert encode_manifest(decode_manifest(data)) == data


@given(st.binary(max_size=200))
def test_noise_is_refused_as_a_manifest_error_and_nothing_else(data):
    with pytest.raises(ManifestError, match=r"^manifest.json: "):
        decode_manifest(data)


@given(st.data())
def test_a_truncated_manifest_is_refused(release_bytes, data):
    cut = data.draw(st.integers(0, len(release_bytes) - 3))
    with pytest.raises(ManifestError):
        decode_manifest(release_bytes[:cut])


@pytest.fixture(scope="module")
def release_bytes(release):
    return (release / "manifest.json").read_bytes()


def edited(data, **changes):
    return json.dumps({**json.loads(data), **changes}).encode()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": 2}, "format 2, but this version of sanderling reads format 1"),
        ({"version": 0}, r"`int` >= 1.*\$.version"),
        ({"name": "Digits!"}, r"regex.*\$.name"),
        ({"name": "digits\n"}, r"regex.*\$.name"),
        ({"golden": {"path": "x", "bytes": 1, "sha256": "0" * 64 + "\n"}}, r"\$.golden.sha256"),
        ({"labels": "abc"}, r"Expected `array`, got `str` - at `\$.labels`"),
        ({"variants": []}, r"length >= 1.*\$.variants"),
        ({"drift": {"window": 0}}, r"\$.drift.window"),
        ({"drift": {"windw": 1}}, "unknown field `windw`"),
        ({"golden": {"path": "x", "bytes": -1, "sha256": "0" * 64}}, r"\$.golden.bytes"),
        ({"golden": {"path": "x", "bytes": 1 << 40, "sha256": "0" * 64}}, r"\$.golden.bytes"),
        ({"golden": {"path": "x", "bytes": 1, "sha256": "0" * 63}}, r"\$.golden.sha256"),
        ({"pipeline": {"decode": [{"op": "magic"}]}}, r"\$.pipeline.decode"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(release_bytes, change, text):
    with pytest.raises(ManifestError, match=text):
        decode_manifest(edited(release_bytes, **change))


def test_fields_of_a_newer_minor_format_are_passed_over(release_bytes):
    assert decode_manifest(edited(release_bytes, colour="blue")) == decode_manifest(release_bytes)


def test_two_variants_of_one_name_are_refused(release_bytes):
    first = json.loads(release_bytes)["variants"][0]
    with pytest.raises(ManifestError, match="variant ids must differ, got fp32-onnx, fp32-onnx"):
        decode_manifest(edited(release_bytes, variants=[first, first]))


def test_a_huge_manifest_is_not_parsed():
    with pytest.raises(ManifestError, match=f"at most {MANIFEST_MAX_BYTES} are allowed"):
        decode_manifest(b"[" * (MANIFEST_MAX_BYTES + 1))


def test_load_and_save(release, tmp_path):
    manifest = load_manifest(release)
    assert save_manifest(manifest, tmp_path) == tmp_path / "manifest.json"
    assert load_manifest(tmp_path) == manifest
    assert (tmp_path / "manifest.json").read_bytes() == (release / "manifest.json").read_bytes()


def test_a_directory_without_a_manifest_is_no_release(tmp_path):
    with pytest.raises(ManifestError, match="not a release directory"):
        load_manifest(tmp_path)


def test_every_file_of_a_release_verifies(release):
    manifest = load_manifest(release)
    assert len(manifest.files()) == 6
    for reference in manifest.files():
        assert reference.verify(release) == release / reference.path


@pytest.mark.parametrize(
    ("content", "text"), [(None, "missing"), (b"12", "2 bytes, but the manifest says 3"), (b"124", "SHA-256 differs")]
)
def test_another_file_than_the_manifest_names_is_refused(tmp_path, content, text):
    if content is not None:
        (tmp_path / "f").write_bytes(content)
    reference = FileReference(path="f", bytes=3, sha256=sha256_bytes(b"123"))
    with pytest.raises(DigestError, match=text):
        reference.verify(tmp_path)


@pytest.mark.parametrize("path", ["../f", "/etc/passwd", "a/../../f", "", "a\\b", "f\0"])
def test_a_file_name_must_not_leave_the_release(tmp_path, path):
    with pytest.raises(ReleaseError, match="must be relative and stay inside"):
        FileReference(path=path, bytes=3, sha256="0" * 64).verify(tmp_path)


def test_reference_file_describes_what_is_there(tmp_path):
    (tmp_path / "f").write_bytes(b"123")
    assert reference_file(tmp_path, "f") == FileReference(path="f", bytes=3, sha256=sha256_bytes(b"123"))


def test_variant_and_baseline_by_name(release):
    manifest = load_manifest(release)
    assert manifest.variant("int8-onnx").precision == "int8"
    with pytest.raises(ManifestError, match="digits/1 has no variant 'x'; it has fp32-onnx, int8-onnx"):
        manifest.variant("x")
    manifest = msgspec.structs.replace(manifest, baselines=(Baseline("default"), Baseline("b", ("cam-2",))))
    assert (manifest.baseline_of("cam-1"), manifest.baseline_of("cam-2")) == ("default", "b")


@pytest.mark.parametrize("keep", [0, 1, 100, -3])
def test_a_manifest_that_was_cut_short_is_said_so(release, keep):
    data = (release / MANIFEST_NAME).read_bytes()[:keep]
    with pytest.raises(ManifestError, match=r"damaged or cut short \(.+\); fetch the release again"):
        decode_manifest(data)
