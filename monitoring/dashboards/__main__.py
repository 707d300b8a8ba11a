"""`python -m monitoring.dashboards`: write every dashboard beside this file as Grafana reads it."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.dashboards import pipelines, speech, traffic

__all__ = ["FOLDER", "rendered"]

FOLDER = Path(__file__).parent


def rendered() -> dict[str, str]:
    """Each dashboard's JSON by file name; the name is the dashboard's uid."""
    boards = [each.BOARD.build() for each in (traffic, speech, pipelines)]
    return {
        f"{board.uid}.json": json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for board in boards
    }


if __name__ == "__main__":
    for name, text in rendered().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
