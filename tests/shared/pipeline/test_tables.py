"""Tables and text against scikit-learn and plain Python."""

from __future__ import annotations

import math
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.manifest import MANIFEST_MAX_BYTES
from shared.pipeline.base import LIMIT_WORDS, objects
from shared.pipeline.encode import Categories, EmbeddingIndex, HashedNgrams, OneHot, Ordinal, Tokens
from shared.pipeline.preprocess import CleanText, Impute, Standardize
from shared.pipeline.spec import Pipeline


def holes(n: int = 60) -> np.ndarray:
    random = np.random.default_rng(0)
    x = random.integers(0, 4, (n, 5)).astype(float)
    x[random.random(x.shape) < 0.25] = np.nan
    x[:, 2] = 1.0
    return x


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
@pytest.mark.parametrize("flags", [False, True])
def test_impute_is_scikit_learns(strategy: str, flags: bool) -> None:
    impute = pytest.importorskip("sklearn.impute")
    x = holes()
    peer = impute.SimpleImputer(strategy=strategy, add_indicator=flags).fit(x)
    found = Impute.fit(x, strategy=strategy, flags=flags)
    np.testing.assert_allclose(found(x[:20]), peer.transform(x[:20]), rtol=1e-12)


def test_a_column_without_numbers_is_filled_with_zero() -> None:
    assert Impute.fit(np.full((3, 1), np.nan)).values == (0.0,)
    assert Impute((5.0,))(np.array([[1, 2]])).tolist() == [[1, 2]]


def test_one_hot_is_scikit_learns() -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    random = np.random.default_rng(1)
    x = random.integers(0, 6, (50, 3)).astype(np.float32)
    peer = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(x[:25, :])
    found = OneHot.fit(x[:25], (0, 1, 2))
    np.testing.assert_array_equal(found(x + (x == 3) * 7), peer.transform(x + (x == 3) * 7))


def test_one_hot_of_words_is_scikit_learns() -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = np.array(["red", "green", "red", "blue"])
    peer = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(x[:, None])
    asked = np.array(["blue", "pink", "red"])
    np.testing.assert_array_equal(OneHot.fit(x)(asked), peer.transform(asked[:, None]))
    np.testing.assert_array_equal(OneHot.fit(x)(objects(asked.tolist())), peer.transform(asked[:, None]))


def test_one_hot_columns_stand_where_the_column_stood() -> None:
    found = OneHot((Categories(1, (10, 20)),))(np.array([[7.0, 20.0, 8.0]]))
    assert found.tolist() == [[7, 0, 1, 8]]


def test_ordinal_is_scikit_learns() -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    random = np.random.default_rng(2)
    x = random.choice(np.array(["a", "bb", "ccc", "d"]), (40, 2))
    peer = preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(x[:10])
    found = Ordinal.fit(x[:10], (0, 1))
    asked = np.where(x == "d", "new", x)
    np.testing.assert_array_equal(found(asked), peer.transform(asked))


def test_categories_of_float32_samples_are_found() -> None:
    known = Categories(0, (0.1, 0.7))
    assert Ordinal((known,))(np.array([[0.7], [0.1]], np.float32)).tolist() == [[1], [0]]
    assert Ordinal((Categories(0, (0.5, 2)),))(np.array([[2], [0]], np.uint8)).tolist() == [[1], [-1]]


@pytest.mark.parametrize(
    "text",
    [
        '{"op": "one_hot", "columns": [{"column": 0, "values": [1, 1]}]}',
        '{"op": "one_hot", "columns": [{"column": 0, "values": [1, "a"]}]}',
        '{"op": "ordinal", "columns": [{"column": 0, "values": [1]}, {"column": 0, "values": [2]}]}',
        '{"op": "embedding_index", "ids": [1, "a"]}',
        '{"op": "tokens", "vocabulary": ["a", "a"], "max_length": 3}',
        '{"op": "tokens", "vocabulary": ["a"], "max_length": 2, "begin": 1, "end": 2}',
        '{"op": "hashed_ngrams", "buckets": 8, "low": 3}',
        '{"op": "cast", "dtype": "complex64"}',
        '{"op": "reshape", "shape": [-1, -1]}',
        '{"op": "add_channel", "axis": 0}',
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(f'{{"encode": [{text}]}}', type=Pipeline)


def test_unknown_ids_share_one_row() -> None:
    operation = EmbeddingIndex.fit(np.array([30, 10, 20, 10]))
    assert operation.ids == (10, 20, 30)
    assert operation(np.array([[20, 10], [99, 30]])).tolist() == [[2, 1], [0, 3]]
    assert EmbeddingIndex.fit(np.array(["b", "a"]))(objects(["b", "zz"])).tolist() == [2, 0]


def test_tokens_of_the_most_frequent_words() -> None:
    texts = np.array(["the pump is hot", "the fan is on", "the end"])
    operation = Tokens.fit(texts, 5, size=3)
    assert operation.vocabulary == ("the", "is", "end")
    assert operation(np.array(["the fan, is the end of it", ""])).tolist() == [[2, 1, 1, 3, 2], [0] * 5]


def test_subwords_are_the_longest_known_pieces() -> None:
    vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "##a", "runn", "##ing", "!")
    operation = Tokens(vocabulary, 9, "subwords", first=0, unknown=1, begin=2, end=3)
    assert operation(np.array(["unaffable running!"])).tolist() == [[2, 4, 5, 6, 8, 9, 10, 3, 0]]
    assert operation(np.array(["unx un"])).tolist() == [[2, 1, 4, 3, 0, 0, 0, 0, 0]]
    assert operation(np.array(["un " * 50])).tolist() == [[2, *[4] * 7, 3]]
    assert operation(np.array(["u" * 200])).tolist() == [[2, 1, 3, *[0] * 6]]


def ngram_reference(text: str, low: int, high: int, buckets: int, signed: bool) -> list[float]:
    words = text.split()
    out = [0.0] * buckets
    for size in range(low, high + 1):
        for start in range(len(words) - size + 1):
            crc = zlib.crc32(" ".join(words[start : start + size]).encode())
            out[crc % buckets] += -1 if signed and crc >= 1 << 31 else 1
    return out


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=4), max_size=8), st.booleans())
def test_hashed_ngrams_by_hand(words: list[str], signed: bool) -> None:
    text = " ".join(words)
    expected = ngram_reference(text, 1, 3, 13, signed)
    batch = objects([text])
    assert HashedNgrams(13, 1, 3, signed=signed)(batch).tolist() == [expected]
    length = math.sqrt(sum(v * v for v in expected)) or 1.0
    found = HashedNgrams(13, 1, 3, signed=signed, normalize=True)(batch)[0]
    np.testing.assert_allclose(found, np.array(expected) / length, rtol=1e-6)


def test_hashed_characters() -> None:
    found = HashedNgrams(8, 2, 2, "characters")(np.array(["abab"]))
    expected = np.zeros(8)
    for pair in (b"ab", b"ba", b"ab"):
        expected[zlib.crc32(pair) % 8] += 1
    assert found.tolist() == [expected.tolist()]


@pytest.mark.parametrize(
    ("operation", "text", "expected"),
    [
        (CleanText(), "  Ｈello\t\nWORLD\x00 ", "hello world"),
        (CleanText("none"), "Ｈ é", "ｈ é"),
        (CleanText("NFC"), "e\u0301", "é"),
        (CleanText(accents=False), "Crème Brûlée Ñ", "creme brulee n"),
        (CleanText(digits="zero"), "Room 42", "room 00"),
        (CleanText(digits="drop"), "a1b2", "ab"),
        (CleanText(punctuation=False), "well, it's_on!", "well it s on"),
        (CleanText(lowercase=False, max_characters=4), "ABC DEF", "ABC"),
    ],
)
def test_clean_text(operation: CleanText, text: str, expected: str) -> None:
    assert operation(np.array([text])).tolist() == [expected]
    assert operation(objects([text])).tolist() == [expected]


@given(st.lists(st.text(), max_size=4))
def test_clean_text_of_clean_text_is_the_same(values: list[str]) -> None:
    once = CleanText()(objects(values))
    for text in once.tolist():
        assert text == text.strip()
        assert "\n" not in text
    again = CleanText()(once)
    assert [t.casefold() for t in CleanText()(again).tolist()] == [t.casefold() for t in again.tolist()]


def encoded(pipeline: Pipeline) -> int:
    return len(msgspec.json.format(msgspec.json.encode({"pipeline": pipeline}), indent=2))


def test_the_largest_operations_leave_the_manifest_below_its_limit() -> None:
    words = objects([f"word{i:05}" for i in range(2 * LIMIT_WORDS)])
    vocabulary = Tokens.fit(words, 16, size=10**9)
    assert len(vocabulary.vocabulary) == LIMIT_WORDS
    assert encoded(Pipeline(encode=(vocabulary,))) < MANIFEST_MAX_BYTES
    with pytest.raises(ValueError, match="a manifest has room for"):
        Standardize.fit(np.random.default_rng(0).normal(size=(3, 20_000)), per_column=True)
    with pytest.raises(ValueError, match="a manifest has room for"):
        Impute.fit(np.zeros((2, 40_000)))
