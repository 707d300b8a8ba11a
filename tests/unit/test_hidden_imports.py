import subprocess
import sys

import pytest

from hearloop.hidden_imports import hidden


def run(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True)


def test_a_hidden_module_is_not_installed_for_a_while() -> None:
    assert "mailbox" not in sys.modules

    with hidden("mailbox"), pytest.raises(ImportError):
        import mailbox
    import mailbox

    assert mailbox.Mailbox


def test_a_module_that_is_loaded_already_stays() -> None:
    with hidden("subprocess"):
        import subprocess as again

    assert again is subprocess


def test_mlflow_asks_without_feast_which_stays_importable() -> None:
    run(
        "import sys\n"
        "from hearloop.hidden_imports import load_mlflow\n"
        "load_mlflow()\n"
        "from mlflow.tracking.request_header.registry import resolve_request_headers\n"
        "assert 'User-Agent' in resolve_request_headers()\n"
        "assert not {'feast', 'torch'} & set(sys.modules)\n"
        "import importlib.util\n"
        "assert importlib.util.find_spec('feast')\n"
    )
