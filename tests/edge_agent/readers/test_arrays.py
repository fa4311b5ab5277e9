"""NPY and NPZ against what numpy wrote."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_agent.readers import open_reader
from shared.errors import InputError
from shared.manifest import SampleSpec


def rows(path, *specs, size=4, start=0):
    reader = open_reader(path, specs)
    return [(ids, samples) for ids, samples in reader.chunks(size, start)]


@given(
    data=arrays.arrays(
        st.sampled_from(["float32", "float64", "uint8", "int16", ">i4", "bool", "<U3"]),
        arrays.array_shapes(min_dims=2, max_dims=4, max_side=6),
    ),
    compressed=st.booleans(),
    fortran=st.booleans(),
    size=st.integers(1, 8),
    start=st.integers(0, 7),
)
def test_round_trip_of_any_array(tmp_path_factory, data, compressed, fortran, size, start):
    path = tmp_path_factory.mktemp("any") / "x.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=np.asfortranarray(data) if fortran else data)
    spec = SampleSpec("str" if data.dtype.kind == "U" else data.dtype.name, data.shape[1:])
    if data.shape == data.shape[1:]:
        return
    found = rows(path, spec, size=size, start=start)
    read = np.concatenate([samples for _, samples in found]) if found else data[:0]
    np.testing.assert_array_equal(read, data[start:])
    assert [id_ for ids, _ in found for id_ in ids] == [str(i) for i in range(start, len(data))]


def test_one_array_for_each_input_and_ids(tmp_path):
    a, b = np.arange(6.0).reshape(3, 2), np.arange(3, dtype=np.int64)
    np.savez(tmp_path / "two.npz", a=a, b=b, ids=np.array([7, 8, 9]))
    found = rows(tmp_path / "two.npz", SampleSpec("float64", (2,), name="a"), SampleSpec("int64", (), name="b"), size=2)
    assert [ids for ids, _ in found] == [["7", "8"], ["9"]]
    np.testing.assert_array_equal(np.concatenate([samples["a"] for _, samples in found]), a)
    np.testing.assert_array_equal(np.concatenate([samples["b"] for _, samples in found]), b)


def test_one_sample_needs_no_batch_axis(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    ((ids, samples),) = rows(tmp_path / "x.npy", SampleSpec("float32", (3, 3)))
    assert ids == ["0"]
    np.testing.assert_array_equal(samples, np.eye(3)[None])


def test_free_dimensions_take_what_the_file_has(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 5, 3), np.float32))
    assert rows(tmp_path / "x.npy", SampleSpec("float32", (-1, 3)))[0][1].shape == (2, 5, 3)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_big_file_is_never_in_memory_as_a_whole(tmp_path, compressed):
    x = np.zeros((200_000, 16), np.float32)  # 12.8 MB
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", x=x)
    del x
    reader = open_reader(tmp_path / "x.npz", (SampleSpec("float32", (16,)),))
    tracemalloc.start()
    try:
        assert sum(len(ids) for ids, _ in reader.chunks(1024, 100_000)) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("arrays_", "text"),
    [
        ({"y": np.zeros((2, 3), np.float32)}, "has no array x; it has y"),
        ({}, "has no array x; it has none"),
        ({"x": np.zeros((2, 4), np.float32)}, "expected shape (2, 3), got (2, 4)"),
        ({"x": np.float32(3)}, "array input is a single number"),
        ({"x": np.zeros((2, 3), np.float32), "ids": ["a"]}, "1 ids for 2 samples"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, arrays_, text):
    np.savez(tmp_path / "x.npz", **arrays_)
    with pytest.raises(InputError) as caught:
        open_reader(tmp_path / "x.npz", (SampleSpec("float32", (3,)),))
    assert str(caught.value).startswith(f"{tmp_path / 'x.npz'}: ")
    assert text in str(caught.value)


def test_inputs_of_different_length_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros((2, 1)), b=np.zeros((3, 1)))
    with pytest.raises(InputError, match="differ in their number of rows: a 2, b 3"):
        open_reader(tmp_path / "x.npz", [SampleSpec("float64", (1,), name=name) for name in "ab"])


def test_python_objects_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        open_reader(tmp_path / "x.npy", (SampleSpec("float32", (1,)),))


def test_a_file_cut_short_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((50, 3), np.float32))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-7])
    with pytest.raises(InputError, match="cut short"):
        open_reader(tmp_path / "x.npy", (SampleSpec("float32", (3,)),))
    np.savez(tmp_path / "x.npz", x=np.zeros((50, 3), np.float32))
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:-7])
    with pytest.raises(InputError, match=r"x\.npz: "):
        open_reader(tmp_path / "x.npz", (SampleSpec("float32", (3,)),))


def test_a_member_whose_header_promises_more_than_there_is(tmp_path):
    data = io.BytesIO()
    np.save(data, np.zeros((50, 3), np.float32))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", data.getvalue()[:-12])
    with pytest.raises(InputError, match="cut short, 12 bytes are missing"):
        open_reader(tmp_path / "x.npz", (SampleSpec("float32", (3,)),))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_flipped_bit_is_noticed(tmp_path, compressed):
    x = np.random.default_rng(0).random((500, 3)).astype(np.float32)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", x=x)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "x.npz").write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"x\.npz: "):
        rows(tmp_path / "x.npz", SampleSpec("float32", (3,)))
