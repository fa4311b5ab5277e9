"""One suite that every backend passes, on real files."""

import threading

import msgspec
import numpy as np
import pytest

from edge_agent import backends
from edge_agent.backends import available, open_backend
from shared.errors import BackendError, MissingExtraError
from shared.manifest import load_manifest
from tests.releases import ALL_VARIANTS, digits, run_file


def tensor(n, seed=0):
    x = digits(n, seed=seed)[0]
    return x, (x.astype(np.float32) * np.float32(1 / 255))[:, None]


@pytest.fixture(params=ALL_VARIANTS)
def variant(request, release):
    return load_manifest(release).variant(request.param)


@pytest.fixture
def backend(variant, release):
    backend = open_backend(variant, release / variant.file.path)
    yield backend
    backend.close()


def single(backend, row):
    with backend.lock:
        backend.input[0] = row
        backend.forward()
        return {role: values.copy() for role, values in backend.outputs.items()}


def test_batch_equals_the_runtime_itself(backend, variant, release):
    x, batch = tensor(40)
    expected = run_file(release / variant.file.path, x)
    found = backend.run({"input": batch})
    assert list(found) == ["logits", "embedding"]
    for role, values in expected.items():
        np.testing.assert_allclose(found[role], values, atol=1e-5)
        assert found[role].dtype == np.float32


def test_single_samples_equal_the_batch(backend):
    _, batch = tensor(10)
    found = backend.run({"input": batch})
    for i, row in enumerate(batch):
        for role, values in single(backend, row).items():
            np.testing.assert_allclose(values, found[role][i], atol=1e-4)


def test_run_gives_arrays_that_later_calls_leave_alone(backend):
    _, batch = tensor(4)
    first = backend.run({"input": batch})
    kept = {role: values.copy() for role, values in first.items()}
    backend.run({"input": batch[::-1].copy()})
    single(backend, batch[3])
    for role, values in kept.items():
        np.testing.assert_array_equal(first[role], values)


def test_outputs_follow_the_manifest_and_not_the_graph_order(backend):
    _, batch = tensor(3)
    found = backend.run({"input": batch})
    assert found["embedding"].max() < 5
    assert found["logits"].max() > 10


def test_threads_get_their_own_answers(backend):
    _, batch = tensor(8)
    expected = backend.run({"input": batch})["logits"]
    wrong = []

    def work(i):
        found = [backend.run({"input": batch[i : i + 1]})["logits"][0] for _ in range(50)]
        wrong.extend(i for logits in found if not np.allclose(logits, expected[i], atol=1e-4))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_empty_batch_gives_empty_outputs(backend):
    found = backend.run({"input": np.empty((0, 1, 16, 16), np.float32)})
    assert {role: values.shape for role, values in found.items()} == {"logits": (0, 10), "embedding": (0, 10)}


def test_damaged_file_is_refused_with_its_name(variant, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"no model" * 40)
    with pytest.raises(BackendError, match=f"{path}.*refuses"):
        open_backend(variant, path)


@pytest.mark.parametrize(
    ("side", "change", "text"),
    [
        ("inputs", {"shape": (None, 1, 8, 8)}, r"input is .*1, 16, 16\) in the file.*8, 8"),
        ("outputs", {"dtype": "float64"}, "logits is .* in the file, but the manifest says float64"),
    ],
)
def test_manifest_of_another_model_is_refused(variant, release, side, change, text):
    specs = list(getattr(variant, side))
    specs[0] = msgspec.structs.replace(specs[0], **change)
    wrong = msgspec.structs.replace(variant, **{side: tuple(specs)})
    with pytest.raises(BackendError, match=text):
        open_backend(wrong, release / variant.file.path)


def test_more_outputs_than_the_file_has_are_refused(variant, release):
    wrong = msgspec.structs.replace(variant, outputs=variant.outputs + (variant.outputs[0],) * 2)
    with pytest.raises(BackendError, match="the manifest names"):
        open_backend(wrong, release / variant.file.path)


def test_wrong_quantization_in_the_manifest_is_refused(release):
    variant = load_manifest(release).variant("int8-litert")
    wrong = msgspec.structs.replace(variant, inputs=(msgspec.structs.replace(variant.inputs[0], scale=0.5),))
    with pytest.raises(BackendError, match=r"scale 0.0039.*manifest says 0.5"):
        open_backend(wrong, release / variant.file.path)


def test_quantization_missing_from_the_manifest_is_taken_from_the_file(release):
    variant = load_manifest(release).variant("int8-litert")
    bare = [msgspec.structs.replace(t, scale=None, zero_point=None) for t in (*variant.inputs, *variant.outputs)]
    plain = msgspec.structs.replace(variant, inputs=tuple(bare[:1]), outputs=tuple(bare[1:]))
    x, batch = tensor(3)
    found = open_backend(plain, release / variant.file.path).run({"input": batch})
    np.testing.assert_allclose(found["logits"], run_file(release / variant.file.path, x)["logits"])


def test_missing_runtime_costs_one_line_with_the_command(variant, release, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert available() == {}
    with pytest.raises(MissingExtraError, match=r"pip install 'sanderling\[(onnx|tflite)\]'"):
        open_backend(variant, release / variant.file.path)


def test_unknown_runtime_is_named(variant, release):
    with pytest.raises(BackendError, match="unknown runtime 'tensorrt'; known: onnxruntime, litert"):
        open_backend(msgspec.structs.replace(variant, runtime="tensorrt"), release / variant.file.path)


def test_runtime_that_is_installed_but_broken_is_said_so(variant, release, monkeypatch):
    def broken(name):
        raise ImportError("libstdc++.so.6: version `GLIBCXX_3.4.32' not found")

    monkeypatch.setattr(backends, "import_module", broken)
    with pytest.raises(BackendError, match="installed but cannot be imported: libstdc"):
        open_backend(variant, release / variant.file.path)


def test_available_tells_versions_without_importing():
    found = available()
    assert found["onnxruntime"].startswith("onnxruntime 1.")
    assert found["litert"].split()[0] in {"ai-edge-litert", "tflite-runtime"}


def test_a_file_that_needs_more_memory_than_there_is_is_refused(variant, release, monkeypatch):
    def short(*_, **__):
        raise MemoryError

    module = backends.load_runtime(variant.runtime, "test")
    monkeypatch.setattr(module, backends.RUNTIMES[variant.runtime].class_name, short)
    with pytest.raises(BackendError, match="needs more memory than there is"):
        open_backend(variant, release / variant.file.path)
