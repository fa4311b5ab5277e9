"""What a kill, a power cut or a second process can leave behind, and that no row is lost, repeated or garbled by it."""

import pytest

from edge_agent.bulk.journal import Identity, Journal, begun
from shared.errors import UsageError

IDENTITY = Identity(model="m", variant="fp32-onnx", inputs="i", shard="1/1", options=".jsonl")
SEGMENTS = [b"one\n", b"two\ntwo\n", b"three\n"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "a.jsonl"


def begin(out, segments=SEGMENTS):
    """A job that was killed after ``segments``."""
    journal = Journal(out, IDENTITY)
    for segment in segments:
        journal.append(segment, segment.count(b"\n"), 0)
    journal.close()
    return out.with_name("a.jsonl.partial"), out.with_name("a.jsonl.journal")


def finish(out):
    """Go on, with the segments that the journal does not know of; what was known."""
    journal = Journal(out, IDENTITY)
    known = len(journal.marks)
    assert journal.rows == sum(segment.count(b"\n") for segment in SEGMENTS[:known])
    for segment in SEGMENTS[known:]:
        journal.append(segment, segment.count(b"\n"), 0)
    journal.finish()
    return known


def test_the_output_appears_whole_and_alone(out):
    partial, _ = begin(out)
    assert not out.exists()
    assert partial.read_bytes() == b"".join(SEGMENTS)
    assert begun(out) == IDENTITY
    assert finish(out) == 3
    assert out.read_bytes() == b"".join(SEGMENTS)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert begun(out) is None


def test_cut_at_any_byte_of_the_journal_it_goes_on(out):
    partial, path = begin(out)
    data, lines = partial.read_bytes(), path.read_bytes()
    for size in range(len(lines) + 1):
        partial.write_bytes(data)
        path.write_bytes(lines[:size])
        assert finish(out) == max(lines[:size].count(b"\n") - 1, 0)
        assert out.read_bytes() == data
        out.unlink()


def test_cut_at_any_byte_of_the_partial_file_it_goes_on(out):
    partial, path = begin(out)
    data, lines = partial.read_bytes(), path.read_bytes()
    for size in range(len(data) + 1):
        partial.write_bytes(data[:size])
        path.write_bytes(lines)
        ends = [len(b"".join(SEGMENTS[: i + 1])) for i in range(3)]
        assert finish(out) == sum(end <= size for end in ends)
        assert out.read_bytes() == data
        out.unlink()


def test_bytes_that_never_reached_the_disk_are_written_again(out):
    partial, path = begin(out)
    data, lines = partial.read_bytes(), path.read_bytes()
    for at in range(len(data)):
        partial.write_bytes(data[:at] + b"\0" + data[at + 1 :])
        path.write_bytes(lines)
        assert finish(out) < 3
        assert out.read_bytes() == data
        out.unlink()


@pytest.mark.parametrize("field", Identity.__struct_fields__)
def test_another_job_touches_nothing_unless_it_is_told_to(out, field):
    files = begin(out)
    before = [file.read_bytes() for file in files]
    other = Identity(**{name: getattr(IDENTITY, name) for name in Identity.__struct_fields__} | {field: "other"})
    with pytest.raises(UsageError, match=rf"another job \({field} differ\).*--restart"):
        Journal(out, other)
    assert [file.read_bytes() for file in files] == before
    journal = Journal(out, other, restart=True)
    assert (journal.rows, begun(out)) == (0, other)
    journal.append(b"new\n", 1, 0)
    journal.finish()
    assert out.read_bytes() == b"new\n"


def test_one_process_at_a_time(out):
    begin(out)
    first = Journal(out, IDENTITY)
    with pytest.raises(UsageError, match="another process is writing it"):
        Journal(out, IDENTITY)
    with pytest.raises(UsageError, match="another process is writing it"):
        Journal(out, IDENTITY, restart=True)
    first.close()
    assert finish(out) == 3


def test_a_job_that_has_done_nothing_leaves_nothing(out):
    journal = Journal(out, IDENTITY)
    journal.append(b"a,head\n", 0, 0)
    journal.close()
    assert list(out.parent.iterdir()) == []


def test_what_fails_while_files_are_joined_is_kept_to_go_on_from(out):
    begin(out)

    def full(_data, path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    journal = Journal(out, IDENTITY)
    with pytest.raises(OSError, match="no space left"):
        journal.finish(full)
    journal.close()
    assert sorted(path.name for path in out.parent.iterdir()) == ["a.jsonl.journal", "a.jsonl.partial"]
    assert finish(out) == 3
    assert out.read_bytes() == b"".join(SEGMENTS)
