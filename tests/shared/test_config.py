"""A wrong configuration is named with file, line, key and what was expected."""

from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct, inspect

from cloud_trainer.config import ControllerConfig, TaskConfig
from edge_agent.config import AgentConfig
from shared.config import load_toml, parse_toml
from shared.enrolment import Enrolment
from shared.errors import ConfigError
from shared.explain import PATTERNS
from shared.manifest import Name
from shared.topics import NAME_PATTERN


class Broker(Struct, frozen=True, forbid_unknown_fields=True):
    host: str
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    listen: Annotated[str, Meta(pattern=r"^.+:[0-9]{1,5}$")] = "127.0.0.1:8700"


class Sink(Struct, frozen=True, forbid_unknown_fields=True):
    path: str


class Npz(Struct, frozen=True, tag="npz", tag_field="kind", forbid_unknown_fields=True):
    path: str


class Stdin(Struct, frozen=True, tag="stdin", tag_field="kind", forbid_unknown_fields=True):
    pass


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    broker: Broker
    source: Npz | Stdin = Stdin()
    level: Literal["debug", "info"] = "info"
    sinks: tuple[Sink, ...] = ()


GOOD = """
name = "plant"

[broker]
host = "localhost"
port = 1884

[[sinks]]
path = "a.jsonl"

[[sinks]]
path = "b.jsonl"
"""


def test_a_good_file_becomes_structs(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text(GOOD)
    assert load_toml(path, Config) == Config(
        "plant", Broker("localhost", 1884), sinks=(Sink("a.jsonl"), Sink("b.jsonl"))
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ("port = 1884", "port = 70000", 6, "broker.port: expected `int` <= 65535"),
        ("port = 1884", 'port = "1884"', 6, "broker.port: expected `int`, got `str`"),
        ("port = 1884", "prt = 1884", 6, "unknown key 'broker.prt'; did you mean 'port'?"),
        ("port = 1884", "colour = 1", 6, "unknown key 'broker.colour'; check the spelling"),
        ("port = 1884", 'listen = "8700"', 6, "broker.listen: expected HOST:PORT, like 127.0.0.1:8700"),
        ('name = "plant"', 'name = "The plant"', 2, "name: expected 1 to 64 of the characters a-z 0-9 _ -"),
        ('name = "plant"', 'name = "plant"\nlevel = "loud"', 3, """level: expected "debug" or "info", got 'loud'"""),
        (
            'name = "plant"',
            'name = "plant"\nsource = {kind = "camera"}',
            3,
            """expected "npz" or "stdin", got 'camera'""",
        ),
        ('name = "plant"', 'name = "plant"\nsource = {kind = "npz", pth = "x"}', 3, "did you mean 'path'?"),
        ('path = "b.jsonl"', 'pat = "b.jsonl"', 12, "unknown key 'sinks.1.pat'; did you mean 'path'?"),
        ('host = "localhost"', "", 4, "missing key 'broker.host'"),
        ('name = "plant"', "", None, "missing key 'name'"),
        ('name = "plant"', "name = 3", 2, "name: expected `str`, got `int`"),
        ('path = "a.jsonl"', "path = 1", 9, "sinks.0.path: expected `str`, got `int`"),
        ('path = "b.jsonl"', "path = 1", 12, "sinks.1.path: expected `str`, got `int`"),
        ('path = "b.jsonl"', 'path = "a"\ncolour = 1', 13, "unknown key 'sinks.1.colour'"),
        ('path = "b.jsonl"', "", 11, "missing key 'sinks.1.path'"),
        ("[broker]", "[broker", 4, "not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, old, new, line, text):
    path = tmp_path / "agent.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_toml(path, Config)
    assert text in str(caught.value)
    assert caught.value.file == str(path)
    if line is not None:
        assert caught.value.line == line
        assert str(caught.value).startswith(f"{path}:{line}: ")
    assert caught.value.exit_code == 2


def test_a_missing_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing.toml: no such file"):
        load_toml(tmp_path / "nothing.toml", Config)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_toml(tmp_path / "binary.toml", Config)
    with pytest.raises(ConfigError, match="it is a directory, not a file"):
        load_toml(tmp_path, Config)


def test_a_string_is_named_as_such():
    with pytest.raises(ConfigError, match=r"^<string>:2: "):
        parse_toml(GOOD.replace('"plant"', "1"), Config)


def test_every_pattern_of_the_configurations_has_its_words():
    found = _patterns(inspect.type_info(AgentConfig)) | _patterns(inspect.type_info(ControllerConfig))
    found |= _patterns(inspect.type_info(TaskConfig)) | _patterns(inspect.type_info(Enrolment))
    assert NAME_PATTERN in found
    assert found <= set(PATTERNS)


def _patterns(node) -> set[str]:
    if isinstance(node, inspect.StrType):
        return {node.pattern} - {None}
    children = [field.type for field in getattr(node, "fields", ())]
    children += getattr(node, "types", ()), getattr(node, "item_types", ())
    children += [getattr(node, name) for name in ("item_type", "key_type", "value_type") if hasattr(node, name)]
    flat = [child for entry in children for child in (entry if isinstance(entry, tuple) else (entry,))]
    return {pattern for child in flat for pattern in _patterns(child)}
