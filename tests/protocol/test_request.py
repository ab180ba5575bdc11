"""Questions and letters over a broker that loses, delays, repeats, forgets and has nobody to hand things to."""

from __future__ import annotations

from itertools import pairwise, product

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.request import FIRST_SILENCE_S, FIRST_UNHEARD_S, LAST_SILENCE_S, WINDOW_BYTES, Mailing, Request
from tests.protocol.strategies import PROPERTY

TIMEOUT_S = 60.0


def test_a_question_is_said_once_while_the_link_has_it() -> None:
    """It is not said again before the broker took it: the link repeats what a connection lost."""
    request = Request(0.0, TIMEOUT_S)
    assert request.due(0.0)
    request.said()
    assert not request.due(TIMEOUT_S - 1)
    assert request.next_s == TIMEOUT_S


def test_silence_doubles() -> None:
    """After the broker took it, it is said again when nothing comes, ever more rarely."""
    request, said_s = Request(0.0, 1000.0), []
    for _ in range(6):
        now_s = request.next_s
        assert request.due(now_s)
        said_s.append(now_s)
        request.said()
        request.taken(now_s, 0.5)
    assert [b - a for a, b in pairwise(said_s)] == [5.0, 10.0, 20.0, 40.0, 60.0]


def test_what_nobody_heard_is_said_again_soon() -> None:
    """A broker that knows it had no listener saves the silence."""
    request = Request(0.0, TIMEOUT_S)
    request.said()
    request.taken(1.0, 0.0)
    request.unheard(1.0, 0.5)
    assert request.next_s == 1.0 + FIRST_UNHEARD_S


def test_a_busy_cloud_is_asked_again_when_it_said_and_not_before() -> None:
    """Put off, it waits as long as it was told and up to half as long again, whatever the broker says later."""
    for jitter in (0.0, 0.99):
        request = Request(0.0, TIMEOUT_S)
        request.said()
        request.put_off(1.0, 8.0, jitter)
        request.taken(1.1, 0.5)
        assert request.busy
        assert not request.due(8.9)
        assert 9.0 <= request.next_s < 13.0
        assert request.due(request.next_s)


def test_a_letter_that_is_put_off_is_not_given_up_for_silence() -> None:
    """A mailing outlives the wait that the cloud asked for, and its letter goes out again."""
    mailing = Mailing([("a", 1)], 0.0, TIMEOUT_S)
    mailing.admit(0.0)
    mailing.under_way["a"].said()
    mailing.put_off("a", 1.0, 2 * TIMEOUT_S, 0.5)
    due_s = mailing.under_way["a"].next_s
    assert due_s == 1.0 + 2.5 * TIMEOUT_S
    assert not mailing.expired(due_s)
    assert mailing.expired(due_s + 2 * TIMEOUT_S)
    mailing.put_off("settled long ago", 1.0, 1.0, 0.5)


def test_every_short_history_is_answered_or_expires() -> None:
    """Whatever five things happen to it: unanswered it stays due in finite time, answered it is never said again."""
    for history in product(["say", "taken", "unheard", "put off", "wait", "answer"], repeat=5):
        request, now_s = Request(0.0, TIMEOUT_S), 0.0
        for event in history:
            if event == "say" and request.due(now_s):
                request.said()
            elif event == "taken":
                request.taken(now_s, 0.0)
            elif event == "unheard":
                request.unheard(now_s, 0.9)
            elif event == "put off":
                request.put_off(now_s, 3.0, 0.9)
            elif event == "wait":
                now_s += FIRST_SILENCE_S
            elif event == "answer":
                request.settle()
        assert request.answered == ("answer" in history)
        assert request.expired(TIMEOUT_S) != request.answered
        assert not (request.answered and request.due(now_s + TIMEOUT_S)), history
        assert request.next_s <= TIMEOUT_S


class Post(RuleBasedStateMachine):
    """Letters to a cloud that keeps what it hears, through a broker that may be killed at any moment."""

    @initialize(sizes=st.lists(st.integers(1, WINDOW_BYTES), max_size=6))
    def start(self, sizes: list[int]) -> None:
        """Letters wait on the device's disk."""
        self.now_s = 0.0
        self.sizes = {f"m{number}": size for number, size in enumerate(sizes)}
        self.kept = dict(self.sizes)  # the device's disk
        self.heard: list[str] = []  # the cloud's, by arrival
        self.at_link: list[str] = []
        self.at_broker: list[str] = []
        self.answers: list[str] = []
        self.mailing = Mailing(self.kept.items(), self.now_s, TIMEOUT_S)

    @rule()
    def say(self) -> None:
        """What is due goes to the link."""
        self.mailing.admit(self.now_s)
        for name, request in self.mailing.under_way.items():
            if request.due(self.now_s):
                self.at_link.append(name)
                request.said()

    @precondition(lambda self: self.at_link)
    @rule(listened=st.booleans())
    def reach_broker(self, listened: bool) -> None:
        """The broker takes a letter; it may have nobody to hand it to."""
        name = self.at_link.pop(0)
        request = self.mailing.under_way.get(name)
        if listened:
            self.at_broker.append(name)
        if request is not None:
            (request.taken if listened else request.unheard)(self.now_s, 0.5)

    @precondition(lambda self: self.at_broker)
    @rule(data=st.data(), repeat=st.booleans())
    def reach_cloud(self, data: st.DataObject, repeat: bool) -> None:
        """The cloud keeps it once, and answers each time; order is not promised across reconnections."""
        at = data.draw(st.integers(0, len(self.at_broker) - 1))
        name = self.at_broker[at] if repeat else self.at_broker.pop(at)
        if name not in self.heard:
            self.heard.append(name)
        self.answers.append(name)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def hear_answer(self, data: st.DataObject) -> None:
        """The device forgets what was accepted."""
        name = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        assert self.mailing.settle(name, self.now_s) == (name in self.kept)
        self.kept.pop(name, None)

    @rule()
    def kill_broker(self) -> None:
        """What it held is gone."""
        self.at_broker.clear()
        self.answers.clear()

    @rule()
    def kill_device(self) -> None:
        """It starts again from its disk; what its link held is gone."""
        self.at_link.clear()
        self.mailing = Mailing(self.kept.items(), self.now_s, TIMEOUT_S)

    @rule(elapsed_s=st.sampled_from([0.5, FIRST_SILENCE_S, 30.0]))
    def wait(self, elapsed_s: float) -> None:
        """Time passes."""
        self.now_s += elapsed_s

    @invariant()
    def nothing_is_lost(self) -> None:
        """A letter leaves the device's disk only after the cloud has it; and no more is under way than fits."""
        assert set(self.sizes) - set(self.kept) <= set(self.heard)
        assert self.mailing.unsettled == set(self.kept)
        under_way = list(self.mailing.under_way)
        assert len(under_way) <= 1 or sum(self.sizes[name] for name in under_way) <= WINDOW_BYTES

    def teardown(self) -> None:
        """From wherever this got to, a link that works again delivers everything, once each."""
        if not hasattr(self, "mailing"):
            return
        self.answers.clear()
        for name in self.at_link:  # the link still brings these
            request = self.mailing.under_way.get(name)
            if request is not None:
                request.taken(self.now_s, 0.5)
        for _ in range(len(self.sizes) + 1):
            self.mailing.admit(self.now_s)
            for name in [name for name, request in self.mailing.under_way.items() if request.due(self.now_s)]:
                if name not in self.heard:
                    self.heard.append(name)
                self.mailing.settle(name, self.now_s)
            self.now_s += 2 * LAST_SILENCE_S
        assert self.mailing.finished
        assert sorted(self.heard) == sorted(self.sizes)


TestPost = Post.TestCase
TestPost.settings = settings(PROPERTY, max_examples=150, stateful_step_count=30)
