"""What the gate says: a verdict and the checks that it rests on."""

from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from hearloop.errors import InvalidInput, first_mistake

__all__ = ["Check", "CheckOutcome", "Outcome", "Verdict"]

CheckOutcome = Literal["pass", "reject", "inconclusive"]
Outcome = Literal["pass", "reject", "inconclusive", "unjudged"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim about the challenger. Figures that a check does not have are None."""

    name: str
    outcome: CheckOutcome
    needed: bool
    """Whether doubt here leaves the whole verdict in doubt."""
    unit: str
    """Of all figures; "WER" and "deletions" are fractions of the reference words."""
    champion: float | None
    challenger: float | None
    limit: float
    """What the difference, or the challenger's figure where there is none, is held against."""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    minimum_detectable: float | None = None
    blocks: int | None = None
    """Speakers (else calls, else utterances) that were resampled."""
    part: str | None = None
    """Slice and class that the check is about; None when it is about all."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says of a challenger, with every check that it rests on."""

    outcome: Outcome
    reason: str
    checks: tuple[Check, ...] = ()

    def to_json(self) -> str:
        """The verdict as JSON; `from_json` gives an equal verdict."""
        return _ADAPTER.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Verdict":
        """Read a verdict. Raises InvalidInput that names the first wrong field."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise InvalidInput(
                f"The verdict is {first_mistake(error)}; judge the evaluation again."
            ) from error


_ADAPTER = TypeAdapter(Verdict)
