from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from hearloop.architecture import ConformerArchitecture
from hearloop.model import build
from hearloop.model.conformer import Conformer

SMALL = ConformerArchitecture(
    vocabulary=5, hidden=16, layers=2, heads=2, kernel=5, chunk=2, left=6, decoder_layers=1
)


@pytest.fixture
def network() -> Conformer:
    torch.manual_seed(0)
    network = build(SMALL).eval()
    assert isinstance(network, Conformer)
    return network


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    """Three utterances, the last one without a text."""
    x = torch.randn(3, 60, 80)
    return x, torch.tensor([15, 12, 6]), torch.tensor([1, 2, 3, 1]), torch.tensor([3, 1, 0])


def test_the_sizes_that_its_description_says() -> None:
    with torch.device("meta"):
        large = build(ConformerArchitecture(vocabulary=500, hidden=512, layers=18, heads=8))
        usual = build(ConformerArchitecture(vocabulary=30))
    assert sum(weight.numel() for weight in usual.parameters()) == pytest.approx(25e6, rel=0.02)
    assert sum(weight.numel() for weight in large.parameters()) == pytest.approx(110e6, rel=0.02)


@torch.inference_mode()
@pytest.mark.parametrize("pieces", [[8] * 12, [16, 48, 8, 24]])
def test_chunks_of_a_stream_give_what_the_whole_gives(
    network: Conformer, pieces: list[int]
) -> None:
    x = torch.randn(2, 96, 80)
    whole = network.posteriors(x, torch.tensor([24, 24]))
    states, answers = network.initial_states(2), []
    for piece in x.split(pieces, dim=1):
        answer, states = network(piece, states)
        answers.append(answer)
    torch.testing.assert_close(torch.cat(answers, dim=1), whole)
    for state, shape in zip(states, SMALL.state_shapes(2).values(), strict=True):
        assert state.shape == shape


@torch.inference_mode()
def test_a_chunk_sees_itself_and_as_much_before_as_it_says(network: Conformer) -> None:
    x = torch.randn(1, 96, 80)
    before = network.posteriors(x, torch.tensor([24]))[0]
    for changed in (3, 12, 23):  # outputs
        other = x.clone()
        other[:, 4 * changed : 4 * changed + 1] += 5.0
        moved = (network.posteriors(other, torch.tensor([24]))[0] - before).abs().amax(1) > 1e-6
        assert not moved[: changed // 2 * 2].any()
        assert moved[changed // 2 * 2]  # the first output of the same chunk
    far = x.clone()
    far[:, :4] += 5.0
    one_layer = build(replace(SMALL, layers=1)).eval()
    difference = one_layer.posteriors(far, torch.tensor([24])) - one_layer.posteriors(
        x, torch.tensor([24])
    )
    assert difference[0, 12:].abs().max() < 1e-6  # beyond what attention and convolution reach


@torch.inference_mode()
def test_a_stream_does_not_depend_on_its_age(network: Conformer) -> None:
    """Positions are relative: the same sounds are heard alike, however much came before."""
    loop = torch.randn(1, 24, 80)
    states, heard = network.initial_states(1), []
    for _ in range(8):
        answer, states = network(loop, states)
        heard.append(answer)
    torch.testing.assert_close(heard[-1], heard[-2], atol=1e-5, rtol=0)


def test_every_weight_learns_with_whole_utterances_and_with_chunks(
    network: Conformer, batch: tuple[torch.Tensor, ...]
) -> None:
    network.train()
    for seed in range(4):  # some draw the whole, others chunks
        torch.manual_seed(seed)
        network.zero_grad()
        network.loss(*batch).backward()
        for name, weight in network.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name


def test_a_step_s_draws_depend_on_its_seed_alone(
    network: Conformer, batch: tuple[torch.Tensor, ...]
) -> None:
    network.train()

    def losses() -> Iterator[float]:
        for seed in (1, 2):
            torch.manual_seed(seed)
            yield float(network.loss(*batch).detach())

    one, other = list(losses()), list(losses())
    assert one == other
    assert one[0] != one[1]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's compiler itself
def test_bfloat16_and_compiled_blocks_compute_about_the_same(
    batch: tuple[torch.Tensor, ...],
) -> None:
    """As on a GPU, where the compiler's backend is another."""
    network = build(replace(SMALL, layers=1, decoder_layers=0, dropout=0.0))
    exact = float(network.loss(*_seeded(batch)).detach())
    network.compile_parts("eager")
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network.loss(*_seeded(batch))
    rounded.backward()
    assert float(rounded.detach()) == pytest.approx(exact, rel=0.02)
    assert {weight.grad.dtype for weight in network.parameters() if weight.grad is not None} == {
        torch.float32
    }


def _seeded(batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return batch


def test_the_decoder_prefers_a_text_that_it_was_taught(network: Conformer) -> None:
    assert network.decoder is not None
    decoder = network.decoder.train()
    encoded, outputs = torch.randn(1, 9, 16), torch.tensor([9])
    text, other = torch.tensor([1, 2, 3]), torch.tensor([3, 1])
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    for _ in range(20):
        optimiser.zero_grad()
        (-decoder.scores(encoded, [text], outputs).sum()).backward()
        optimiser.step()
    decoder.eval()
    with torch.inference_mode():
        both = decoder.scores(encoded.expand(2, -1, -1), [text, other], outputs.expand(2))
        alone = decoder.scores(encoded, [other], outputs)
    assert both[0] > both[1] + 3
    torch.testing.assert_close(both[1:], alone)  # padding counts for nothing
