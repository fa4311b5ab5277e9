"""What every backend must do, on files of every kind, against numpy.

Imports nothing but pytest, numpy and the agent, so that it also runs where only ``tflite_runtime`` is; the files come
from ``$SANDERLING_TEST_MODELS`` there.
"""

import ctypes
import os
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.backends import RUNTIMES, available, open_backend
from edge_agent.backends.inspect import inspect_file
from shared.errors import BackendError
from shared.manifest import TensorSpec
from tests.edge_agent.backends.models import MODELS, write_all

SUFFIXES = [runtime.suffix for name, runtime in RUNTIMES.items() if name in available()]
CASES = [(name, suffix) for name, model in MODELS.items() for suffix in model.write if suffix in SUFFIXES]


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    ready = os.environ.get("SANDERLING_TEST_MODELS")
    return Path(ready) if ready else write_all(tmp_path_factory.mktemp("models"))


@pytest.fixture
def load(files):
    """Opens backends and closes them."""
    opened = []

    def load(name, suffix, variant=None, **options):
        model = MODELS.get(name)
        backend = open_backend(variant or model.variant(suffix), files / (name + suffix), **options)
        opened.append(backend)
        return backend

    yield load
    for backend in opened:
        backend.close()


def equal(found, expected, tolerance=1e-5):
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape
        if values.dtype.kind in "fiu":
            np.testing.assert_allclose(found[name], values, atol=tolerance, rtol=1e-5)
        else:
            np.testing.assert_array_equal(found[name], values)


def single(backend, row):
    with backend.lock:
        backend.input[0] = row
        backend.forward()
        return {name: values.copy() for name, values in backend.outputs.items()}


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_values_equal_numpy_for_any_number_of_samples(load, name, suffix):
    model = MODELS[name]
    backend = load(name, suffix)
    for seed, n in enumerate((1, 3, 64, 2, 1, 0)):
        feeds = model.feeds(n, seed)
        expected = model.reference(feeds)
        kept = {key: values.copy() for key, values in feeds.items()}
        equal(backend.run(feeds), expected, model.tolerance)
        equal(feeds, kept)


@pytest.mark.parametrize(("name", "suffix"), [case for case in CASES if case[0] in {"state", "no-batch"}])
def test_tensors_without_a_batch_axis_come_back_whole(load, name, suffix):
    model = MODELS[name]
    found = load(name, suffix).run(model.feeds(3))
    for spec in model.outputs:
        if not spec.batch:
            assert found[spec.name].shape == spec.shape


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_state_goes_from_call_to_call(load, suffix):
    backend = load("state", suffix)
    feeds = MODELS["state"].feeds(1)
    state = feeds["state"].copy()
    for _ in range(3):
        found = backend.run(feeds)
        np.testing.assert_allclose(found["y"], (feeds["x"] + state) * feeds["gain"], rtol=1e-5)
        state = state * feeds["gain"]
        feeds["state"] = found["state_out"]
        np.testing.assert_allclose(feeds["state"], state, rtol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_open_sizes_change_from_call_to_call(load, suffix):
    backend = load("open-sizes", suffix)
    for n, length in ((1, 7), (5, 3), (1, 3), (2, 11), (5, 3)):
        x = np.random.default_rng(length).normal(size=(n, length, 2)).astype(np.float32)
        equal(backend.run({"x": x}), {"y": np.maximum(x, 0)})


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_single_samples_use_buffers_where_the_model_allows(load, name, suffix):
    model = MODELS[name]
    backend = load(name, suffix)
    shapes = [tensor.shape[1:] for tensor in (*model.inputs, *model.outputs)]
    plain = all(tensor.batch and tensor.dtype != "str" for tensor in (*model.inputs, *model.outputs))
    assert backend.direct == (len(model.inputs) == 1 and plain and not any(None in shape for shape in shapes))
    if not backend.direct:
        assert not backend.outputs
        return
    feeds = model.feeds(5)
    whole = backend.run(feeds)
    for i, row in enumerate(feeds[model.inputs[0].name]):
        found = single(backend, row)
        equal(found, {key: np.asarray(values[i]) for key, values in whole.items()}, model.tolerance)


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_nobody_overwrites_what_run_gave(load, name, suffix):
    model = MODELS[name]
    backend = load(name, suffix)
    for n in (1, 4):
        feeds = model.feeds(n)
        first = backend.run(feeds)
        kept = {key: values.copy() for key, values in first.items()}
        for seed in (1, 2):
            backend.run(model.feeds(n, seed))
        for values in feeds.values():
            values[...] = "" if values.dtype == object else 0
        if backend.direct:
            single(backend, 0)
        equal(first, kept)
        for values in first.values():
            assert values.flags.writeable


@pytest.mark.parametrize("memory_arena", [True, False])
@pytest.mark.parametrize(
    ("name", "suffix"), [c for c in CASES if c[0] in {"mlp", "mlp-static", "state", "int8", "open-sizes", "copy-str"}]
)
def test_eight_threads_get_their_own_answers(load, name, suffix, memory_arena):
    model = MODELS[name]
    backend = load(name, suffix, memory_arena=memory_arena)
    wrong = []

    def work(i):
        feeds = model.feeds(1 + i % 4, seed=i)
        expected = model.reference(feeds)
        for _ in range(25):
            try:
                equal(backend.run(feeds), expected, model.tolerance)
                if backend.direct:
                    (x,) = feeds.values()
                    first = {key: np.asarray(values[0]) for key, values in expected.items()}
                    equal(single(backend, x[0]), first, model.tolerance)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tensors_go_by_name_whatever_the_order_of_file_and_manifest(load, suffix):
    model = MODELS["pair-float32"]
    variant = model.variant(suffix)
    swapped = msgspec.structs.replace(variant, inputs=variant.inputs[::-1], outputs=variant.outputs[::-1])
    feeds = model.feeds(4)
    feeds["b"] *= 0
    for each in (variant, swapped):
        found = load(model.name, suffix, each).run(feeds)
        np.testing.assert_array_equal(found["product"], 0 * feeds["a"])
        np.testing.assert_array_equal(found["sum"], feeds["a"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_that_the_file_lacks_go_by_position(load, suffix):
    model = MODELS["pair-float32"]
    variant = model.variant(suffix)
    named = {"a": "left", "b": "right"}
    inputs = tuple(msgspec.structs.replace(spec, name=named[spec.name]) for spec in variant.inputs)
    (total,) = [spec for spec in variant.outputs if spec.name == "sum"]
    backend = load(model.name, suffix, msgspec.structs.replace(variant, inputs=inputs, outputs=(total,)))
    feeds = model.feeds(2)
    equal(backend.run({"left": feeds["a"], "right": feeds["b"]}), {"sum": feeds["a"] + feeds["b"]})


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_inspecting_a_file_tells_what_the_manifest_must_say(files, name, suffix):
    model = MODELS[name]
    found = inspect_file(files / (name + suffix))
    assert found.runtime == model.variant(suffix).runtime
    assert found.precision == ("int8" if "int8" in name and "copy" not in name else "fp32")
    for specs, wanted in ((found.inputs, model.inputs), (found.outputs, model.outputs)):
        by_name = {spec.name: spec for spec in specs}
        assert set(by_name) == {spec.name for spec in wanted}
        for spec in wanted:
            there = by_name[spec.name]
            assert (there.dtype, there.shape, there.batch) == (spec.dtype, spec.shape, spec.batch)
            if suffix == ".tflite" and spec.scale:
                assert there.scale == pytest.approx(spec.scale)
                assert there.zero_point == spec.zero_point
    opened = msgspec.structs.replace(model.variant(suffix), inputs=found.inputs, outputs=found.outputs)
    open_backend(opened, files / (name + suffix)).close()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"a": None}, r"takes a, b, but was given b"),
        ({"c": np.zeros(1)}, r"takes a, b, but was given a, b, c"),
        ({"a": np.zeros((2, 3), np.float64)}, "a is float32, but was given float64"),
        ({"a": np.zeros((2, 4), np.float32)}, r"a is \(n, 3\), but was given \(2, 4\)"),
        ({"a": np.zeros(3, np.float32)}, r"a is \(n, 3\), but was given \(3\)"),
        ({"a": np.zeros((3, 3), np.float32)}, "b has 2 samples, the inputs before it 3"),
    ],
)
def test_wrong_feeds_are_refused_and_the_next_call_is_served(load, suffix, change, text):
    model = MODELS["pair-float32"]
    backend = load(model.name, suffix)
    feeds = model.feeds(2)
    wrong = {name: values for name, values in {**feeds, **change}.items() if values is not None}
    with pytest.raises(BackendError, match=text):
        backend.run(wrong)
    equal(backend.run(feeds), model.reference(feeds))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_that_counts_no_samples_is_refused_with_what_would_be_right(load, suffix):
    model = MODELS["state"]
    variant = model.variant(suffix)
    outputs = (variant.outputs[0], TensorSpec("state_out", "float32", (3,)))
    with pytest.raises(BackendError, match=r"state_out \(3\) has no batch axis.* batch = false"):
        load("state", suffix, msgspec.structs.replace(variant, outputs=outputs))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_array_that_numpy_calls_an_array_of_the_right_shape_will_do(load, suffix):
    model = MODELS["pair-float32"]
    backend = load(model.name, suffix)
    feeds = model.feeds(6)
    expected = model.reference(feeds)
    strided = {name: np.asfortranarray(np.repeat(values, 2, axis=1))[:, ::2] for name, values in feeds.items()}
    equal(backend.run(strided), expected)
    for values in feeds.values():
        values.flags.writeable = False
    equal(backend.run(feeds), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_may_come_as_any_array_of_text(load, suffix):
    backend = load("copy-str", suffix)
    x = np.array([[["", "a", "Möwe"], ["雨", "b\nc", "knot " * 50]]])
    assert x.dtype.kind == "U"
    found = backend.run({"x": x})["y"]
    assert found.dtype == object
    assert found.tolist() == [x.ravel().tolist()]


@pytest.mark.parametrize(("name", "suffix"), [case for case in CASES if case[0] in {"mlp", "mlp-static", "state"}])
def test_a_closed_backend_says_so(load, name, suffix):
    model = MODELS[name]
    backend = load(name, suffix)
    backend.run(model.feeds(2))
    backend.close()
    backend.close()
    for n in (0, 1, 2):
        with pytest.raises(BackendError, match="closed"):
            backend.run(model.feeds(n))
    if backend.direct:
        with pytest.raises(BackendError, match="closed"), backend.lock:
            backend.forward()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_closing_frees_the_memory(files, suffix):
    x, y = (TensorSpec(name, "float32", (None, 1000)) for name in "xy")
    variant = msgspec.structs.replace(MODELS["mlp"].variant(suffix), inputs=(x,), outputs=(y,))

    def work():
        backend = open_backend(variant, files / f"big{suffix}")
        backend.run({"x": np.zeros((3, 1000), np.float32)})
        backend.close()

    for _ in range(5):
        work()
    before = rss_mib()
    for _ in range(30):  # 4 MB of weights each
        work()
    assert rss_mib() - before < 40


def rss_mib():
    """Resident memory without what was freed but kept by the allocator for later: it grows in steps of its own."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
