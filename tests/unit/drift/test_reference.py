import json
import math

import pytest

from hearloop.drift.reference import MINIMUM_SPEAKERS, Reference, ReferenceRow, build
from hearloop.errors import ConfigurationError, IntegrityError

SIGNALS = ("snr_db", "empty")


def row(speaker: int, condition: str = "golden", errors: int = 0, **signals: float) -> ReferenceRow:
    return ReferenceRow(
        condition=condition, speaker=f"s{speaker}", signals=signals, errors=errors, words=10
    )


def enough(condition: str = "golden", errors: int = 0) -> list[ReferenceRow]:
    return [
        row(speaker, condition, errors, snr_db=20.0 + speaker, empty=0.0)
        for speaker in range(MINIMUM_SPEAKERS)
        for _ in range(2)
    ]


def test_it_survives_json_with_what_was_not_measured() -> None:
    reference = build([*enough(), row(0, empty=1.0)], signals=SIGNALS)
    again = Reference.from_json(reference.to_json())
    assert again.to_json() == reference.to_json()
    assert again.speakers == MINIMUM_SPEAKERS
    (known,) = again.conditions
    assert known.speakers[0][:2] == ((20.0, 0.0), (20.0, 0.0))
    assert math.isnan(known.speakers[0][2][0])
    assert known.speakers[0][2][1] == 1.0


def test_conditions_of_few_speakers_are_left_out() -> None:
    reference = build(
        [*enough(), *(row(n, "prompts", snr_db=1.0) for n in range(5))], signals=SIGNALS
    )
    assert [known.name for known in reference.conditions] == ["golden"]
    with pytest.raises(ConfigurationError, match="prompts"):
        build([row(1, "prompts")], signals=SIGNALS)


def test_word_error_rate_is_that_of_the_hardest_known_condition() -> None:
    reference = build([*enough("golden", 1), *enough("new", 3)], signals=SIGNALS)
    assert [known.wer for known in reference.conditions] == pytest.approx([0.1, 0.3])
    assert reference.wer == pytest.approx(0.3)


def test_a_speaker_with_more_errors_than_words_counts_as_one() -> None:
    assert build(enough(errors=25), signals=SIGNALS).wer == 1.0


@pytest.mark.parametrize("body", ["", "[]", '{"signals": []}', '{"signals": 1, "conditions": 2}'])
def test_a_damaged_reference_is_refused(body: str) -> None:
    with pytest.raises(IntegrityError, match=r"reference\.json"):
        Reference.from_json(body)


def test_json_holds_no_infinity() -> None:
    reference = build([*enough(), row(0, snr_db=math.inf)], signals=SIGNALS)
    assert "Infinity" not in reference.to_json()
    json.loads(reference.to_json(), parse_constant=pytest.fail)
