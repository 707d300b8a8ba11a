import json

from benchmarks.results import record


def test_a_figure_replaces_its_last_value_and_keeps_the_others(tmp_path):
    record("serving", "one", 1.0, "s", "make it", home=tmp_path)
    record("serving", "two", 2.0, "s", "make it", home=tmp_path)
    record("serving", "one", 0.123456789, "ms", "make it again", home=tmp_path)

    (one, two) = json.loads((tmp_path / "serving.json").read_text())
    assert (one["figure"], two["figure"]) == ("one", "two")
    assert (one["value"], one["unit"], one["command"]) == (0.12346, "ms", "make it again")
    assert two["value"] == 2.0
    assert "CPUs" in one["machine"]
    assert set(one) == {"figure", "value", "unit", "command", "machine"}
