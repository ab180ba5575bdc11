"""What is known of messages that were handed to MQTT."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.tunnel.sent import NO_SUBSCRIBERS, Fate, Sent


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, NO_SUBSCRIBERS])), max_size=40), st.data())
def test_every_message_has_the_fate_that_the_broker_gave_it(
    messages: list[tuple[bool, int]], data: st.DataObject
) -> None:
    """Whether its acknowledgement comes before, or after, whoever sent it learnt its number."""
    sent = Sent()
    late = []
    for mid, (early, reason) in enumerate(messages, start=1):
        if early:
            sent.acknowledged(mid, reason)
        sent.handed_over(mid)
        if not early:
            assert sent.fate(mid) is Fate.ON_ITS_WAY
            late.append((mid, reason))
    assert sent.everything == (not late)
    for mid, reason in data.draw(st.permutations(late)):
        sent.acknowledged(mid, reason)
    assert sent.everything
    for mid, (_, reason) in enumerate(messages, start=1):
        assert sent.fate(mid) is (Fate.UNHEARD if reason == NO_SUBSCRIBERS else Fate.TAKEN)


def test_a_number_that_is_used_again_is_a_new_message() -> None:
    """MQTT has 65,535 numbers."""
    sent = Sent()
    sent.handed_over(1)
    sent.acknowledged(1, NO_SUBSCRIBERS)
    sent.handed_over(1)
    assert sent.fate(1) is Fate.ON_ITS_WAY
