import os
import socket
from pathlib import Path

import pytest

from hearloop.errors import ConfigurationError
from hearloop.stack.ports import HOST, SEAWEED_GRPC_OFFSET, Ports

SERVICES = ("objects", "events", "tracking", "serving", "monitoring")


def bound(ports: Ports) -> list[int]:
    return [port for service in SERVICES for port in ports.of(service)]


@pytest.mark.parametrize("ports", [Ports(), Ports.free()])
def test_no_port_is_used_twice_and_none_is_one_for_outgoing_connections(ports: Ports) -> None:
    every = bound(ports)
    assert len(set(every)) == len(every)
    assert max(every) < 32768


def test_free_ports_are_free_and_differ_from_stack_to_stack() -> None:
    first, second = Ports.free(), Ports.free()
    assert not set(bound(first)) & set(bound(second))
    for port in bound(first):
        with socket.create_server((HOST, port)):
            pass


def test_a_seaweed_port_stands_for_its_grpc_port_too() -> None:
    ports = Ports.free()
    port = ports.objects_volume + SEAWEED_GRPC_OFFSET
    with socket.create_server((HOST, port)), pytest.raises(ConfigurationError) as caught:
        ports.require_free("objects")
    assert f"Port {port}, which objects needs, is taken by" in str(caught.value)
    assert f"(process {os.getpid()})" in str(caught.value)
    ports.require_free("objects")


def test_the_ports_of_a_home_are_remembered_until_they_are_forgotten(tmp_path: Path) -> None:
    ports = Ports.free()
    assert Ports.of_home(tmp_path) is None
    ports.keep(tmp_path)
    assert Ports.of_home(tmp_path) == ports
    Ports.forget(tmp_path)
    Ports.forget(tmp_path)
    assert Ports.of_home(tmp_path) is None
