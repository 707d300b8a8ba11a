"""How a challenger takes the traffic: the rule, and the loop that carries it out."""

from hearloop.rollout.loop import (
    Clock,
    ModelRegistry,
    RolloutStore,
    Router,
    SystemClock,
    roll_out,
)
from hearloop.rollout.rule import (
    Action,
    Evidence,
    Reading,
    RolloutState,
    Step,
    Tally,
    Traffic,
    next_step,
)

__all__ = [
    "Action",
    "Clock",
    "Evidence",
    "ModelRegistry",
    "Reading",
    "RolloutState",
    "RolloutStore",
    "Router",
    "Step",
    "SystemClock",
    "Tally",
    "Traffic",
    "next_step",
    "roll_out",
]
