"""Writes the README of each module from its files: `python terraform/readme.py [--check]`.

What a module is for stands at the top of its main.tf, what it takes and gives in the descriptions
of its variables and outputs; the README repeats them for those who browse.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import hcl2

ROOT = Path(__file__).parent


def main() -> int:
    """Write the READMEs, or with --check only say which ones are out of date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when one differs")
    check = parser.parse_args().check
    stale = []
    for folder in folders():
        readme, text = folder / "README.md", document(folder)
        if readme.is_file() and readme.read_text(encoding="utf-8") == text:
            continue
        stale.append(readme.relative_to(ROOT))
        if not check:
            readme.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"Out of date: {', '.join(map(str, stale))}; run python terraform/readme.py")
    return int(check and bool(stale))


def folders() -> list[Path]:
    """Every module that another one calls."""
    return [*sorted(path.parent for path in ROOT.glob("modules/*/main.tf")), ROOT / "platform"]


def document(folder: Path) -> str:
    """The README of a module."""
    parts = [f"# {folder.name}", "<!-- Written by terraform/readme.py; change the .tf files. -->"]
    parts += [_purpose(path) for path in sorted(folder.glob("*.tf"), key=_main_first)]
    parts += ["## Inputs", _table("| input | type | default | |", _inputs(folder))]
    parts += ["## Outputs", _table("| output | |", _outputs(folder))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _main_first(path: Path) -> tuple[bool, str]:
    return path.name != "main.tf", path.name


def _purpose(path: Path) -> str:
    """The comment at the top of a file, as one paragraph for each that it has."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return re.sub(r"(?<!\n)\n(?!\n)", " ", "\n".join(lines))


def _inputs(folder: Path) -> list[list[str]]:
    return [
        [f"`{name}`", _type(said), _default(said), str(said["description"])]
        for name, said in _blocks(folder / "variables.tf", "variable")
    ]


def _outputs(folder: Path) -> list[list[str]]:
    return [
        [f"`{name}`", str(said["description"])]
        for name, said in _blocks(folder / "outputs.tf", "output")
    ]


def _blocks(path: Path, kind: str) -> list[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        found = _plain(hcl2.load(file)).get(kind, [])
    return [(name, said) for each in found for name, said in each.items()]


def _type(said: dict[str, Any]) -> str:
    """`object` for an object: its fields are in variables.tf."""
    kind = str(said["type"]).removeprefix("${").removesuffix("}")
    return f"`{re.sub(r'object[(][{].*[}][)]', 'object', kind, flags=re.DOTALL)}`"


def _default(said: dict[str, Any]) -> str:
    if "default" not in said:
        return "needed"
    value = said["default"]
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_word(each)}" for key, each in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_word(each) for each in value) or "none"
    return _word(value)


def _word(value: object) -> str:
    """null, true and false as HCL writes them."""
    return (
        "null" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"
    )


def _table(head: str, rows: list[list[str]]) -> str:
    rule = "|" + "---|" * (head.count("|") - 1)
    return "\n".join([head, rule, *(f"| {' | '.join(row)} |" for row in rows)])


def _plain(value: Any) -> Any:
    """Values as they are, without the quotes that hcl2 keeps."""
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


if __name__ == "__main__":
    sys.exit(main())
