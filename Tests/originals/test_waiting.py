"""What is said while an original script is waited for."""

import io

import pytest

from swiftnets.originals import waiting
from swiftnets.originals.waiting import Waiting


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(waiting, "time", found)
    return found


def told(stream):
    """What stands on the line."""
    return stream.getvalue().rpartition("\r")[2].removesuffix("\x1b[K")


def test_the_estimate_is_the_median_iteration_times_those_that_are_left(clock):
    stream = Terminal()
    say = Waiting(stream, 10)
    clock.now = 105.0
    say("slow_net.py", 0, 5.0)
    assert told(stream) == "slow_net.py: iteration 0 of 10, 5 s, no estimate yet"
    # The first took 50 s, the next two 20 s each.
    for iteration, begun in ((1, 150.0), (2, 170.0), (3, 190.0)):
        clock.now = begun + 4.0
        say("slow_net.py", iteration, 4.0)
    # 16 s of this one, and 7 more of 20 s.
    assert told(stream) == "slow_net.py: iteration 3 of 10, 4 s, about 3 min left"
    clock.now = 190.0 + 25.0
    say("slow_net.py", 3, 25.0)
    assert told(stream) == "slow_net.py: iteration 3 of 10, 25 s, about 2 min left"
    # Four that nobody waited for took 10 s each.
    clock.now = 230.0 + 1.0
    say("slow_net.py", 7, 1.0)
    assert told(stream) == "slow_net.py: iteration 7 of 10, 1 s, about 39 s left"
    say.clear()
    assert told(stream) == ""


def test_lines_that_stay_come_seldom(clock):
    stream = io.StringIO()
    say = Waiting(stream, 3)
    for second in range(1, 100):
        clock.now = 100.0 + second
        say("fast_net.py", second // 40, float(second % 40))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "fast_net.py: iteration 0 of 3, 30 s, no estimate yet"
    assert lines[1] == "fast_net.py: iteration 1 of 3, 20 s, about 100 s left"
    say.clear()
    assert len(stream.getvalue().splitlines()) == 3


def test_long_times_are_told_in_hours(clock):
    stream = Terminal()
    say = Waiting(stream, 1000)
    say("slow_net.py", 0, 0.0)
    clock.now = 121.0
    say("slow_net.py", 1, 1.0)
    assert told(stream).endswith("about 5.6 h left")
