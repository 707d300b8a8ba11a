"""Pictures of the demo as inline SVG. They carry their own text and follow the page's colours."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

__all__ = ["Detector", "DetectorPoint", "Mark", "Request", "detector_chart", "traffic_chart"]

WIDTH, HEIGHT = 860, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 26, 34
"""Margins for the axes' figures, in SVG units."""

BINS = 110
"""Bars of the traffic chart: 8 units wide each, wide enough to see on a phone."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that a caller made."""

    at_s: float
    """Since the demo began, in seconds."""
    version: str
    """Model version that answered; empty when the request failed."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened, to be pointed at in the traffic chart."""

    at_s: float
    text: str


@dataclass(frozen=True, kw_only=True)
class DetectorPoint:
    """The shift detector after a call."""

    call: int
    """Calls watched so far."""
    statistic: float
    """Evidence that speech has changed; an alarm at the detector's threshold."""


@dataclass(frozen=True, kw_only=True)
class Detector:
    """What the shift detector saw."""

    points: tuple[DetectorPoint, ...]
    threshold: float
    change_call: int
    """Calls watched when the callers changed."""
    alarm_call: int | None
    """Calls watched when the alarm was raised."""


def traffic_chart(requests: Sequence[Request], marks: Sequence[Mark]) -> Markup:
    """Requests over time, stacked by the version that answered; failures are drawn on top."""
    end = max([1.0, *(one.at_s for one in requests), *(mark.at_s for mark in marks)])
    versions = list(dict.fromkeys(one.version for one in requests if one.version))
    layers = [*versions, ""]
    counted = Counter((_bin(one.at_s, end), one.version) for one in requests)
    highest = max([1, *Counter(_bin(one.at_s, end) for one in requests).values()])
    width = (WIDTH - LEFT - RIGHT) / BINS
    shapes = []
    for number in range(BINS):
        below = 0
        for layer in layers:
            amount = counted[number, layer]
            if not amount:
                continue
            top, bottom = _y(below + amount, 0, highest), _y(below, 0, highest)
            css = f"version-{versions.index(layer) % 3}" if layer else "failed"
            shapes.append(
                Markup(
                    '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                ).format(css, LEFT + number * width, top, width - 1, bottom - top)
            )
            below += amount
    label = f"{len(requests)} requests in {end:.0f} seconds, answered by " + ", then ".join(
        f"version {version}" for version in versions
    )
    flags = [_flag(_x(mark.at_s, 0, end), str(place)) for place, mark in enumerate(marks, 1)]
    axes = _axes(
        [(_x(at, 0, end), f"{at:g} s") for at in _ticks(end)],
        [(_y(count, 0, highest), f"{count:g}") for count in _ticks(highest, 4)],
    )
    return _svg(label, [_HATCH, axes, *shapes, *flags])


def detector_chart(detector: Detector) -> Markup:
    """The detector's statistic after each call, on a logarithmic scale, with the alarm line."""
    floor_value = 1e-2
    points = [(one.call, max(one.statistic, floor_value)) for one in detector.points]
    last = max([1, *(call for call, _ in points)])
    low = floor(log10(min([1.0, *(value for _, value in points)])))
    high = ceil(log10(max([detector.threshold, *(value for _, value in points)])) + 0.2)

    def y(value: float) -> float:
        return _y(log10(value), low, high)

    line = " ".join(f"{_x(call, 0, last):.1f},{y(value):.1f}" for call, value in points)
    step = ceil((high - low) / 6)
    powers = range(low, high + 1, step)
    shapes = [
        _axes(
            [(_x(call, 0, last), f"{call:g}") for call in _ticks(last)],
            [(y(10.0**power), _power(power)) for power in powers],
        ),
        _level(y(detector.threshold), f"alarm at {detector.threshold:,.0f}"),
        _flag(_x(detector.change_call, 0, last), "callers change"),
        Markup('<polyline class="line" points="{}"/>').format(line),
    ]
    label = f"Evidence of a change over {last} calls; callers change at {detector.change_call}"
    if detector.alarm_call is not None:
        raised = [value for call, value in points if call >= detector.alarm_call]
        at = y(raised[0] if raised else detector.threshold)
        shapes.append(
            Markup('<circle class="alarm" cx="{:.1f}" cy="{:.1f}" r="5"/>').format(
                _x(detector.alarm_call, 0, last), at
            )
        )
        label += f", alarm at call {detector.alarm_call}"
    return _svg(label, shapes)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_HATCH = Markup(
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect width="6" height="6" class="hatch-back"/>'
    '<line x1="0" y1="0" x2="0" y2="6" class="hatch-line"/></pattern></defs>'
)


def _svg(label: str, shapes: Sequence[Markup]) -> Markup:
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{label}"><svg class="chart" '
        'viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{shapes}</svg></div>'
    ).format(label=label, width=WIDTH, height=HEIGHT, shapes=Markup("").join(shapes))


def _axes(across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]]) -> Markup:
    shapes = [
        Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
            '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
        ).format(LEFT, WIDTH - RIGHT, y, y, LEFT - 8, y + 4, text)
        for y, text in up
    ]
    shapes += [
        Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            x, HEIGHT - BOTTOM + 20, text
        )
        for x, text in across
    ]
    return Markup("").join(shapes)


def _level(y: float, text: str) -> Markup:
    return Markup(
        '<line class="level" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
        '<text class="level-text" x="{}" y="{:.1f}">{}</text>'
    ).format(LEFT, WIDTH - RIGHT, y, y, LEFT + 6, y - 6, text)


def _flag(x: float, text: str) -> Markup:
    anchor = "end" if x > WIDTH * 0.8 else "middle"
    return Markup(
        '<line class="flag" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>'
        '<text class="flag-text" x="{:.1f}" y="{}" text-anchor="{}">{}</text>'
    ).format(x, x, TOP - 6, HEIGHT - BOTTOM, x, TOP - 10, anchor, text)


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _bin(at_s: float, end: float) -> int:
    return min(int(at_s / end * BINS), BINS - 1)


def _ticks(end: float, at_most: int = 9) -> list[float]:
    """Round numbers from 0 to `end`."""
    for exponent in range(12):
        for digit in (1, 2, 5):
            step = digit * 10**exponent
            if end / step <= at_most:
                return [float(step * number) for number in range(int(end / step) + 1)]
    raise ValueError(f"no axis reaches {end}")


def _power(power: int) -> str:
    """A power of ten as people write it."""
    return f"{10.0**power:,.0f}" if 0 <= power <= 4 else "10" + str(power).translate(_RAISED)
