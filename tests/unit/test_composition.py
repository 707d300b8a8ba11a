from pathlib import Path

from hearloop import composition
from hearloop.config import Settings, TrainJobSettings
from hearloop.testing import InMemoryObjects
from hearloop.training import TorchrunLauncher, TrainJobLauncher


def test_a_process_has_one_pool_of_connections_for_each_database(tmp_path: Path) -> None:
    one, other = (Settings(database_url=f"sqlite:///{tmp_path}/{name}.db") for name in "ab")

    assert composition.database(one) is composition.database(one.model_copy())
    assert composition.database(one) is not composition.database(other)
    composition.decisions(one).append(kind="gate", subject="run", decision="pass", reason="better")
    assert len(composition.decisions(one).list()) == 1
    assert composition.decisions(other).list() == []


def test_workers_train_in_a_cluster_when_the_settings_name_its_runtime() -> None:
    here, cluster = Settings(), Settings(trainjob=TrainJobSettings(runtime="hearloop-training"))

    assert isinstance(composition.trainer(here, InMemoryObjects()), TorchrunLauncher)
    assert isinstance(composition.trainer(cluster, InMemoryObjects()), TrainJobLauncher)


def test_a_registry_is_made_while_the_database_is_away(tmp_path: Path) -> None:
    (tmp_path / "hearloop.db").mkdir()
    composition.registry(Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db"))
