import numpy as np
import torch

from hearloop.features import MEL_BINS
from hearloop.training.batches import Example
from hearloop.training.worker import calibrate
from tests.unit.training.test_loop import trainer


def test_a_network_knows_the_speech_that_it_learns_from() -> None:
    rng = np.random.default_rng(0)
    spoken = [rng.normal(-6, 4, (frames, MEL_BINS)).astype(np.float16) for frames in (3, 80, 7)]
    for features in spoken:
        features[:, 5] = -2.5  # nothing is heard in this bin
    examples = [
        Example(id=str(number), features=features, ids=(1,), text="a")
        for number, features in enumerate(spoken)
    ]
    unread = Example(id="no text", features=np.zeros((50, MEL_BINS), np.float16), ids=(), text="")
    network = trainer().network
    calibrate(network, [*examples, unread])
    frames = np.concatenate(spoken).astype(np.float64)
    expected = frames.std(axis=0)
    expected[5] = 0.01
    known = network.state_dict()
    torch.testing.assert_close(known["mean"], torch.from_numpy(frames.mean(axis=0)).float())
    torch.testing.assert_close(known["deviation"], torch.from_numpy(expected).float())
