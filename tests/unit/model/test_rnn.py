import pytest
import torch

from hearloop.architecture import STATES, Architecture
from hearloop.model import Network, StreamStates

SMALL = Architecture(vocabulary=5, front_channels=8, hidden=12, layers=2)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(SMALL).eval()


def test_the_default_network_has_the_size_that_its_description_says() -> None:
    network = Network(Architecture(vocabulary=29))
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(2.7e6, rel=0.02)


@torch.inference_mode()
def test_pieces_give_what_the_whole_gives(network: Network) -> None:
    x = torch.randn(2, 48, 80)
    whole, final = network(x, network.initial_states(2))
    states = network.initial_states(2)
    answers = []
    for piece in x.split([4, 16, 8, 20], dim=1):
        answer, states = network(piece, states)
        answers.append(answer)
    torch.testing.assert_close(torch.cat(answers, dim=1), whole)
    for name, one, other in zip(STATES, states, final, strict=True):
        torch.testing.assert_close(one, other, msg=name)


@torch.inference_mode()
def test_nothing_depends_on_the_future(network: Network) -> None:
    x = torch.randn(1, 40, 80)
    changed = x.clone()
    changed[:, 20:] += 1.0
    before, _ = network(x, network.initial_states(1))
    after, _ = network(changed, network.initial_states(1))
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


@torch.inference_mode()
def test_states_have_the_declared_names_and_shapes(network: Network) -> None:
    assert StreamStates._fields == STATES
    log_probs, states = network(torch.randn(3, 8, 80), network.initial_states(3))
    assert log_probs.shape == (3, 2, 5)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 2))
    shapes = {name: tuple(state.shape) for name, state in states._asdict().items()}
    assert shapes == SMALL.state_shapes(3)


@pytest.mark.parametrize(("frames", "padded"), [(0, 24), (1, 28), (4, 28), (5, 32)])
def test_the_tail_fills_the_last_output_frame(frames: int, padded: int) -> None:
    assert SMALL.padded_frames(frames) == padded
