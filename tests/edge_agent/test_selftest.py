"""A release proves itself on its golden samples, or is refused."""

import numpy as np
import pytest

from edge_agent import Engine
from edge_agent.selftest import TOLERANCES, Tolerance, difference, golden_samples, self_test
from shared.errors import SelfTestError
from shared.manifest import load_manifest, reference_file, save_manifest
from tests.releases import ALL_VARIANTS


def rewrite(release, **arrays):
    """Replace arrays of golden.npz (None: leave out) and make the manifest name the new file."""
    import msgspec

    path = release / "golden.npz"
    with np.load(path) as file:
        found = {**dict(file), **arrays}
    np.savez(path, **{name: value for name, value in found.items() if value is not None})
    manifest = load_manifest(release)
    save_manifest(msgspec.structs.replace(manifest, golden=reference_file(release, "golden.npz")), release)


@pytest.mark.parametrize("variant", ALL_VARIANTS)
def test_a_good_release_passes_with_every_variant(release, variant):
    self_test(Engine.load(release, variant=variant))


def test_other_answers_are_refused_and_counted(own_release):
    with np.load(own_release / "golden.npz") as file:
        scores = file["scores.fp32-onnx"]
    rewrite(own_release, **{"scores.fp32-onnx": np.roll(scores, 1, axis=1)})
    with pytest.raises(SelfTestError, match=r"digits/1, variant fp32-onnx: 32 of 32 golden samples differ"):
        self_test(Engine.load(own_release, variant="fp32-onnx"))
    self_test(Engine.load(own_release, variant="int8-onnx"))  # whose own golden answers are untouched


def test_int8_may_differ_a_little_where_fp32_may_not(own_release):
    with np.load(own_release / "golden.npz") as file:
        moved = {f"scores.{v}": np.clip(file[f"scores.{v}"] + 0.05, 0, 1) for v in ("fp32-onnx", "int8-onnx")}
    rewrite(own_release, **moved)
    self_test(Engine.load(own_release, variant="int8-onnx"))
    with pytest.raises(SelfTestError, match=r"more than 0\.01"):
        self_test(Engine.load(own_release, variant="fp32-onnx"))


def test_a_golden_file_without_this_variant_is_refused(own_release):
    rewrite(own_release, **{"scores.fp32-onnx": None})
    with pytest.raises(SelfTestError, match=r"lacks .*scores.fp32-onnx"):
        self_test(Engine.load(own_release, variant="fp32-onnx"))


def test_golden_samples_of_another_shape_are_refused(own_release):
    rewrite(own_release, x=np.zeros((32, 8, 8), np.uint8))
    with pytest.raises(SelfTestError, match=r"expected shape \(32, 16, 16\)"):
        self_test(Engine.load(own_release, variant="fp32-onnx"))


def test_pickles_in_a_golden_file_are_refused(own_release):
    rewrite(own_release, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SelfTestError, match="cannot be read"):
        self_test(Engine.load(own_release, variant="fp32-onnx"))


def test_a_damaged_golden_file_is_refused(own_release):
    engine = Engine.load(own_release, variant="fp32-onnx")
    (own_release / "golden.npz").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(SelfTestError, match=r"golden.npz.*damaged"):
        self_test(engine)


def test_a_golden_file_that_unpacks_to_too_much_is_refused(own_release, monkeypatch):
    monkeypatch.setattr("edge_agent.selftest.MAX_BYTES", 100)
    with pytest.raises(SelfTestError, match="bytes unpacked; at most 100"):
        golden_samples(Engine.load(own_release, variant="fp32-onnx"))


def test_nan_never_passes():
    scores = np.full((3, 2), 0.5)
    bad = scores.copy()
    bad[0, 0] = np.nan
    assert difference(scores, scores, TOLERANCES["fp32"]) == ""
    assert difference(bad, scores, Tolerance(10.0, 1.0)) == "scores are NaN or infinite"


def test_the_share_is_counted_in_whole_samples():
    expected = np.zeros((100, 2))
    found = expected.copy()
    found[:5] = 0.5
    assert difference(found, expected, Tolerance(0.15, 0.05)) == ""
    found[5] = 0.5
    assert difference(found, expected, Tolerance(0.15, 0.05)).startswith("6 of 100")
    assert "shape" in difference(found[:3], expected, Tolerance(0.15, 0.05))
