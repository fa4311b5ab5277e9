"""CSV against what the csv module wrote."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.readers import open_reader
from shared.errors import InputError
from shared.manifest import SampleSpec

ABC = SampleSpec("float32", (3,), columns=("a", "b", "c"))


def read(tmp_path, text, *specs, size=100, name="x.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(open_reader(path, specs or (ABC,)).read(size))


def values(chunks):
    return np.concatenate([chunk.samples for chunk in chunks])


@given(
    table=st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=20),
    order=st.permutations(["a", "b", "c", "note"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    end=st.sampled_from(["\n", "\r\n"]),
    note=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    size=st.integers(1, 9),
)
def test_round_trip_of_any_table_with_columns_in_any_order(tmp_path_factory, table, order, quoting, end, note, size):
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=quoting, lineterminator=end)
    writer.writerow(order)
    for row in table:
        cells = {**dict(zip("abc", map(repr, row), strict=True)), "note": note + '"\n,'}
        writer.writerow([cells[name] for name in order])
    chunks = read(tmp_path_factory.mktemp("any"), out.getvalue(), size=size)
    np.testing.assert_array_equal(values(chunks), np.array(table, np.float32))
    assert not any(chunk.bad for chunk in chunks)


def test_an_empty_cell_is_nan_for_floats(tmp_path):
    np.testing.assert_array_equal(values(read(tmp_path, "a,b,c\n1,,3\n , 5 ,6\n")), [[1, np.nan, 3], [np.nan, 5, 6]])


def test_a_headerless_table_counts_if_its_width_fits(tmp_path):
    np.testing.assert_array_equal(values(read(tmp_path, "1,2,3\n4,5,6\n")), [[1, 2, 3], [4, 5, 6]])


def test_names_that_the_model_does_not_know_count_by_position_if_it_has_none(tmp_path):
    plain = SampleSpec("float32", (3,))
    np.testing.assert_array_equal(values(read(tmp_path, "u,v,w\n1,2,3\n", plain)), [[1, 2, 3]])
    np.testing.assert_array_equal(values(read(tmp_path, "0,1,2\n7,8,9\n", plain)), [[7, 8, 9]])


def test_ids_come_from_their_column(tmp_path):
    (chunk,) = read(tmp_path, "b,id,a,c\n2,first,1,3\n5,second,4,6\n")
    assert chunk.ids == ["first", "second"]
    np.testing.assert_array_equal(chunk.samples, [[1, 2, 3], [4, 5, 6]])


def test_tabs_semicolons_a_byte_order_mark_and_blank_lines(tmp_path):
    assert values(read(tmp_path, "a\tb\tc\n1\t2\t3\n", name="x.tsv")).tolist() == [[1, 2, 3]]
    assert values(read(tmp_path, "a;b;c\n1;2;3\n")).tolist() == [[1, 2, 3]]
    assert values(read(tmp_path, b"\xef\xbb\xbfa,b,c\n\n1,2,3\n\n")).tolist() == [[1, 2, 3]]


def test_whole_numbers_truths_texts_and_several_inputs(tmp_path):
    specs = [
        SampleSpec("int64", (2,), name="n"),
        SampleSpec("bool", (), name="on"),
        SampleSpec("str", (), name="text"),
    ]
    (chunk,) = read(tmp_path, 'text,n_0,on,n_1\n"a, b",9007199254740993,TRUE,-2.0\nc,1,0,2\n', *specs)
    assert chunk.samples["n"].tolist() == [[9007199254740993, -2], [1, 2]]
    assert chunk.samples["n"].dtype == np.int64
    assert chunk.samples["on"].tolist() == [True, False]
    assert chunk.samples["text"].tolist() == ["a, b", "c"]


def test_images_in_rows_take_their_shape(tmp_path):
    (chunk,) = read(tmp_path, "0,1,2,255\n", SampleSpec("uint8", (2, 2)))
    assert chunk.samples.tolist() == [[[0, 1], [2, 255]]]


def test_a_free_dimension_is_what_the_columns_leave(tmp_path):
    (chunk,) = read(tmp_path, "1.5,2,3,4\n", SampleSpec("float32", (-1, 2)))
    assert chunk.samples.tolist() == [[[1.5, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("text", "spec", "where"),
    [
        ("a,b,c\n1,2,3\n1,x,3\n", ABC, ":3: column b: expected float32, got 'x'"),
        ('a,b,c\n1,2,"3\n4"\n', ABC, ":3: column c: expected float32, got '3\\n4'"),
        ("a,b,c\n1,2\n", ABC, ":2: expected 3 columns, got 2"),
        ("a,b,c\n\n\n1,2,3,4\n", ABC, ":4: expected 3 columns, got 4"),
        ("n\n256\n", SampleSpec("uint8", (1,), name="n"), ":2: column 1: expected uint8, got '256'"),
        ("n\n1.5\n", SampleSpec("int32", (1,), name="n"), ":2: column 1: expected int32, got '1.5'"),
        ("n,m\n,1\n", SampleSpec("int32", (2,)), ":2: column 1: expected int32, got ''"),
        ("n\n1" + "0" * 30 + "\n", SampleSpec("int64", (1,), name="n"), "column 1: expected int64, got '1000"),
        ("n\nmaybe\n", SampleSpec("bool", (1,), name="n"), "column 1: expected bool, got 'maybe'"),
    ],
)
def test_a_bad_row_is_named_with_file_line_and_column(tmp_path, text, spec, where):
    (bad,) = [bad for chunk in read(tmp_path, text, spec) for bad in chunk.bad]
    assert bad.text.startswith(str(tmp_path / "x.csv"))
    assert where in bad.text
    with pytest.raises(InputError):
        list(open_reader(tmp_path / "x.csv", (spec,)).chunks(10))


def test_good_rows_around_a_bad_one_are_kept(tmp_path):
    (chunk,) = read(tmp_path, "id,a,b,c\nx,1,2,3\ny,1,?,3\nz,7,8,9\n")
    assert chunk.ids == ["x", "y", "z"]
    assert [bad.position for bad in chunk.bad] == [1]
    assert chunk.samples.tolist() == [[1, 2, 3], [7, 8, 9]]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a,b,d\n1,2,3\n", ":1: has no column c; it has a, b, d"),
        ("a,b,c,a\n1,2,3,4\n", ":1: column 'a' is there 2 times"),
        ("1,2\n", ":1: expected 3 columns (a, b, c), got 2"),
        (b"a,b,\xff\n", ":1: "),
    ],
)
def test_a_table_that_does_not_fit_is_refused_when_it_is_opened(tmp_path, text, where):
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'x.csv'}{where}")


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path):
    with pytest.raises(InputError, match=r"x\.csv:\d+: .*utf-8"):
        read(tmp_path, b"a,b,c\n" + b"1,2,3\n" * 5000 + b"1,\xff,3\n")


def test_an_empty_file_has_no_rows(tmp_path):
    assert read(tmp_path, "") == []
    assert read(tmp_path, "a,b,c\n") == []
