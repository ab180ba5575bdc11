from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import topics
from protocol.errors import MalformedMessageError
from protocol.topics import NAME_PATTERN, Topic
from tests.protocol.strategies import PROPERTY

names = st.from_regex(NAME_PATTERN, fullmatch=True)


@PROPERTY
@given(names, names, st.sampled_from(["up", "down"]), names)
def test_parse_reads_what_str_writes(fleet: str, device: str, direction: topics.Direction, kind: str) -> None:
    """A topic survives its own text."""
    topic = Topic(fleet, device, direction, kind)
    assert topics.parse(str(topic)) == topic


def test_spelling() -> None:
    """The topics are part of the wire format and of the broker's access list."""
    assert topics.up("home", "pi-1", "hello") == "coda/v1/home/pi-1/up/hello"
    assert topics.down("home", "pi-1", "task") == "coda/v1/home/pi-1/down/task"
    assert topics.device_filter("home", "pi-1") == "coda/v1/home/pi-1/down/+"
    assert topics.cloud_filter("home") == "$share/cloud/coda/v1/home/+/up/+"


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "+", "#", "a b", "a\n", "ä", "a" * 64])
def test_names_that_could_escape_a_topic_are_refused(name: str) -> None:
    """No name can hold a separator or a wildcard, or be too long for a certificate."""
    for make in (topics.up, topics.down):
        with pytest.raises(MalformedMessageError, match="fleet"):
            make(name, "pi-1", "hello")
        with pytest.raises(MalformedMessageError, match="device"):
            make("home", name, "hello")
    with pytest.raises(MalformedMessageError):
        topics.cloud_filter(name)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "coda/v1/home/pi-1/up",
        "coda/v1/home/pi-1/up/hello/more",
        "coda/v2/home/pi-1/up/hello",
        "other/v1/home/pi-1/up/hello",
        "coda/v1/home/pi-1/sideways/hello",
        "coda/v1//pi-1/up/hello",
        "coda/v1/home/+/up/hello",
        "coda/v1/home/pi-1/up/",
        "/coda/v1/home/pi-1/up/hello",
    ],
)
def test_foreign_topics_are_refused(topic: str) -> None:
    """Only the one spelling is ours."""
    with pytest.raises(MalformedMessageError):
        topics.parse(topic)


@PROPERTY
@given(st.text(max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Nothing but a MalformedMessageError escapes the parser."""
    with suppress(MalformedMessageError):
        assert str(topics.parse(text)) == text
