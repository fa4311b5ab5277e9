"""Files are whole or not there, and names stay inside their directory."""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ReleaseError
from shared.files import inside, sha256_bytes, sha256_file, write_atomic


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "f"
    write_atomic(path, b"old" * 1000)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_the_mode_is_set_before_the_file_is_visible(tmp_path):
    write_atomic(tmp_path / "secret", b"x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("where", ["fsync", "replace", "fchmod"])
def test_when_it_fails_the_old_file_stays_and_nothing_is_left_behind(tmp_path, monkeypatch, where):
    path = tmp_path / "f"
    write_atomic(path, b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, where, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_an_interrupt_leaves_nothing_behind_either(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "f", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(tmp_path / "no" / "f", b"")
    assert caught.value.filename == str(tmp_path / "no" / "f")


@given(data=st.binary(max_size=1000))
def test_both_digests_agree_with_hashlib(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("digest") / "f"
    path.write_bytes(data)
    assert sha256_file(path) == sha256_bytes(data) == hashlib.sha256(data).hexdigest()


@given(st.text(max_size=40))
def test_no_name_leaves_its_directory(name):
    root = Path("/srv/release")
    try:
        path = inside(root, name)
    except ReleaseError:
        return
    assert os.path.normpath(path).startswith("/srv/release/")
    assert PurePosixPath(path).is_relative_to(root)


@pytest.mark.parametrize("name", ["", "/", "/etc/passwd", "..", "a/../b", "a/..", "..\\x", "a\0b", "//x"])
def test_names_that_could_leave_are_refused(name):
    with pytest.raises(ReleaseError, match="must be relative and stay inside"):
        inside(Path("/srv"), name)


def test_plain_names_are_joined():
    assert inside(Path("/srv"), "variants/a.onnx") == Path("/srv/variants/a.onnx")


def test_an_error_names_the_file_that_was_wanted_and_nothing_is_left(tmp_path):
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "taken", tmp_path / "nodir" / "a.json"):
        with pytest.raises(OSError, match=re.escape(f": '{path}'") + "$"):
            write_atomic(path, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
