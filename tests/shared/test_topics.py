"""Topics are built and split without surprises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import topics
from shared.errors import MessageError
from shared.topics import Topic, check_name, parse

names = st.from_regex(r"[a-z0-9_-]{1,64}", fullmatch=True)


@given(names, names, names, names)
def test_what_is_built_is_split_again(site, device, kind, name):
    for built, expected in [
        (topics.up(site, device, kind, name), (site, device, "up", kind, name)),
        (topics.up(site, device, kind), (site, device, "up", kind, "")),
        (topics.down(site, device, kind, name), (site, device, "down", kind, name)),
        (topics.truth(site, device, name), (site, device, "truth", "truth", name)),
    ]:
        topic = parse(built)
        assert (topic.site, topic.device, topic.branch, topic.kind, topic.name) == expected
        assert str(topic) == built


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "sanderling/v1",
        "sanderling/v1/plant/cam-1",
        "sanderling/v1/plant/cam-1/up",
        "sanderling/v1/plant/cam-1/up/",
        "sanderling/v1/plant/cam-1/sideways/x",
        "sanderling/v2/plant/cam-1/up/status",
        "sanderling/v1/Plant/cam-1/up/status",
        "sanderling/v1/+/cam-1/up/status",
        "sanderling/v1/plant/" + "x" * 65 + "/up/status",
        "sanderling/v1/plant/cam-1/up/" + "x" * 201,
        "sanderling/v1/plant/cam-1/up/status\nsanderling",
        "x/sanderling/v1/plant/cam-1/up/status",
        "$SYS/broker/clients",
    ],
)
def test_strange_topics_are_refused(topic):
    with pytest.raises(MessageError, match="is not sanderling/v1"):
        parse(topic)


@given(st.from_regex(r"sanderling/v1(/([a-z]{1,3}|up|down|truth|\+|#|A|)){2,5}\n?", fullmatch=True))
def test_what_looks_like_a_topic_is_one_or_is_refused(text):
    parts = text.split("/")
    good = len(parts) >= 6 and all(part.isalpha() and part.islower() for part in parts[2:4]) and "\n" not in text
    if good and parts[4] in {"up", "down", "truth"} and "/".join(parts[5:]):
        assert str(parse(text)) == text
    else:
        with pytest.raises(MessageError):
            parse(text)


@pytest.mark.parametrize("name", ["", "A", "ä", "a b", "a/b", "+", "#", "..", "x" * 65, "a\n"])
def test_names_that_are_unsafe_in_topics_files_or_addresses_are_refused(name):
    with pytest.raises(MessageError, match=r"^device .* must be 1 to 64 of the characters"):
        check_name(name, "device")


def test_three_branches_make_three_access_rules():
    assert topics.device_filter("plant", "cam-1") == "sanderling/v1/plant/cam-1/down/#"
    assert topics.controller_filters("plant") == ("sanderling/v1/plant/+/up/#", "sanderling/v1/plant/+/truth/#")
    assert str(Topic("plant", "cam-1", "up", "status")) == topics.up("plant", "cam-1", "status")
