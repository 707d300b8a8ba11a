"""Silence of callers is not the lateness of who listens."""

from serving.calls.silence import ReadUntil


def test_what_is_unread_may_say_that_the_caller_spoke() -> None:
    reading = ReadUntil()
    assert reading.until(0) == float("-inf")
    reading.mark(0, now=100.0, end=50)
    reading.read(0, 49)
    assert reading.until(0) == float("-inf")
    reading.mark(0, now=200.0, end=90)  # the older mark is still to be reached
    reading.read(0, 50)
    assert reading.until(0) == 100.0
    reading.mark(0, now=300.0, end=50)
    reading.read(0, 50)
    assert reading.until(0) == 300.0
    reading.forget(0)
    assert reading.until(0) == float("-inf")
