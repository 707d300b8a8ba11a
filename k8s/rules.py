"""`python -m k8s.rules`: the rules of monitoring/rules as objects of the Prometheus operator.

Kustomize reads nothing outside its folder and cannot wrap a file, so the objects are written out;
a test holds them to the rules.
"""

from pathlib import Path
from typing import Final

import yaml

__all__ = ["RENDERED", "RULES", "rendered"]

RULES: Final = Path(__file__).parents[1] / "monitoring" / "rules"
RENDERED: Final = Path(__file__).parent / "components" / "observability" / "rules.yaml"

HEADER: Final = "# Written by `python -m k8s.rules` from monitoring/rules: change them there.\n"
LINE: Final = 96
"""Columns before YAML folds a text: as in the files that people write."""


def rendered() -> str:
    """One PrometheusRule for each file of rules, as YAML."""
    objects = [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": f"hearloop-{path.stem}", "namespace": "hearloop"},
            "spec": {"groups": yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]},
        }
        for path in sorted(RULES.glob("*.yaml"))
    ]
    return HEADER + yaml.safe_dump_all(objects, sort_keys=False, width=LINE, allow_unicode=True)


if __name__ == "__main__":
    RENDERED.write_text(rendered(), encoding="utf-8")
