import configparser
from pathlib import Path

import pytest

from hearloop.config import Settings
from hearloop.errors import ConfigurationError
from hearloop.stack import Ports, Stack
from hearloop.stack.services import environment, services
from hearloop.stack.supervision import Supervisor


def written(home: Path, ports: Ports) -> str:
    stack = Stack(home, ports=ports)
    return Supervisor(stack.home, Path.cwd())._written(stack._services.values())


def test_a_stack_points_its_settings_at_itself(tmp_path: Path) -> None:
    ports = Ports.free()
    settings = Stack(tmp_path, ports=ports).settings
    assert settings.s3.endpoint_url == f"http://127.0.0.1:{ports.objects}"
    assert settings.kafka.bootstrap_servers == f"127.0.0.1:{ports.events}"
    assert settings.mlflow_tracking_uri == f"http://127.0.0.1:{ports.tracking}"
    assert settings.database_url == f"sqlite:///{tmp_path}/hearloop.db"


def test_its_environment_gives_another_process_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(tmp_path, ports=Ports.free())
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    assert Settings() == stack.settings


def test_credentials_come_from_the_settings_and_stay_out_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARLOOP_S3__SECRET_ACCESS_KEY", "a-secret")
    stack = Stack(tmp_path, ports=Ports.free())
    assert environment(stack.settings)["AWS_SECRET_ACCESS_KEY"] == "a-secret"
    assert "a-secret" not in written(tmp_path, stack.ports)


def test_services_are_named_after_those_that_they_need(tmp_path: Path) -> None:
    stack = Stack(tmp_path, ports=Ports.free())
    seen: set[str] = set()
    for name, service in services(stack.home, stack.ports, stack.settings).items():
        assert seen.issuperset(service.needs)
        seen.add(name)


def test_a_service_is_stopped_before_those_that_it_needs(tmp_path: Path) -> None:
    stack = Stack(tmp_path, ports=Ports.free())
    order = [name for wave in stack._waves() for name in wave]
    assert sorted(order) == sorted(stack._services)
    for name, service in stack._services.items():
        assert all(order.index(name) < order.index(needed) for needed in service.needs)


def test_supervisor_reads_back_paths_with_spaces_and_percent_signs(tmp_path: Path) -> None:
    home = tmp_path / "100 % ours"
    text = written(home, Ports.free())
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    parser.read_string(text)
    assert parser["supervisord"]["logfile"].replace("%%", "%") == f"{home}/logs/supervisord.log"
    assert "%%" in parser["program:objects"]["command"]


def test_naming_a_service_brings_what_it_needs(tmp_path: Path) -> None:
    stack = Stack(tmp_path, ports=Ports.free())
    assert [service.name for service in stack._with_needs(["events"])] == ["objects", "events"]
    assert len(stack._with_needs(["serving"])) == 4


def test_the_whole_stack_starts_only_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=f"{tmp_path} has no folder serving"):
        Stack(tmp_path / "stack", ports=Ports.free()).up()
