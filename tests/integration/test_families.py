"""The families beside the default one: trained by real workers, exported, judged and served."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from hearloop import decoding, feature_archive
from hearloop.architecture import ConformerArchitecture, Wav2Vec2Architecture, sample_rows, sized
from hearloop.bundle import hears_samples, verify
from hearloop.decoding import Word
from hearloop.errors import ConfigurationError
from hearloop.evaluation import agreement
from hearloop.export import load_network
from hearloop.families import ConformerCtc, Family, RnnCtc, Wav2Vec2Ctc
from hearloop.features import Matrix, Samples, log_mel
from hearloop.model import build
from hearloop.model.conformer import Conformer
from hearloop.recipe import Recipe, TrainingConfig
from hearloop.recogniser import Recogniser
from hearloop.sherpa import write_sherpa
from hearloop.streaming import Engine, Partial, StreamOptions, transcribe_long
from hearloop.testing import InMemoryObjects
from hearloop.tokenizer import Tokenizer
from hearloop.training import FeatureSet, TorchrunLauncher, train
from hearloop.training.batches import Example
from hearloop.training.checkpoints import Checkpoints, restore
from hearloop.training.loop import Trainer
from hearloop.training.request import StagedTraining, TrainingRequest
from hearloop.training.worker import run
from tests.bundles import noise
from tests.integration.test_sherpa import TAIL, sherpa
from tests.integration.test_training import PITCHES, beeps
from tests.pretrained import random_encoder, write_hugging_face_folder
from tests.unit.streaming.conftest import voice
from tests.unit.streaming.test_engine import Caller

pytestmark = pytest.mark.timeout(600)

STEPS = 4
SOURCE = "s3://models/tiny"
CONFORMER = ConformerCtc(
    hidden=16, layers=2, heads=2, kernel=5, chunk=8, left=16, decoder_layers=1, dropout=0.05
)
WAV2VEC2 = Wav2Vec2Ctc(source=SOURCE, frozen_steps=2)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A bundle of each family and the recordings to hear."""

    bundle: Path
    objects: InMemoryObjects
    sets: list[FeatureSet]
    config: TrainingConfig


def store(objects: InMemoryObjects, features: Callable[[Samples], Matrix]) -> FeatureSet:
    """An archive as `feature_archive` writes them; every fourth utterance is for development."""
    rng, rows, matrices = np.random.default_rng(1), [], []
    for number in range(16):
        text = "".join(rng.choice(list(PITCHES), size=3))
        matrices.append(features(beeps(text, rng)).astype(np.float16))
        split = "dev" if number % 4 == 0 else "train"
        rows.append({"id": str(number), "split": split, "text": text, "frames": len(matrices[-1])})
    body = save({"features": np.concatenate(matrices)}, metadata={"rows": json.dumps(rows)})
    shard = {"name": "0.safetensors", "sha256": hashlib.sha256(body).hexdigest()}
    objects.put("s3://features/one/0.safetensors", body)
    objects.put("s3://features/one/manifest.json", json.dumps({"shards": [shard]}).encode())
    return FeatureSet(role="new", archive="s3://features/one/manifest.json")


def learn(folder: Path, family: Family, workers: int) -> Trained:
    objects = InMemoryObjects()
    saved = write_hugging_face_folder(folder / "saved", random_encoder())
    for path in saved.iterdir():
        objects.put(f"{SOURCE}/{path.name}", path.read_bytes())
    sets = [store(objects, sample_rows if isinstance(family, Wav2Vec2Ctc) else log_mel)]
    config = TrainingConfig(
        steps=STEPS,
        batch_seconds=4.0,
        peak_learning_rate=1e-4,  # they go on babbling: silence would show nothing
        family=family,
        workers=workers,
    )
    launcher = TorchrunLauncher(objects, folder / "cache")
    places = {"output": folder / "bundle", "work": folder / "work"}
    summary = train(config, sets=sets, base_bundle=None, launcher=launcher, **places)
    assert summary.steps == STEPS
    return Trained(bundle=folder / "bundle", objects=objects, sets=sets, config=config)


@pytest.fixture(scope="module")
def conformer(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return learn(tmp_path_factory.mktemp("conformer"), CONFORMER, workers=1)


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """By two workers: some weights have no part in the first steps, and DDP must not mind."""
    return learn(tmp_path_factory.mktemp("wav2vec2"), WAV2VEC2, workers=2)


@pytest.mark.parametrize("family", ["conformer", "wav2vec2"])
def test_what_was_trained_is_what_is_served(family: str, request: pytest.FixtureRequest) -> None:
    trained: Trained = request.getfixturevalue(family)
    bundle = verify(trained.bundle)
    assert isinstance(trained.config.family, ConformerCtc | Wav2Vec2Ctc)
    assert bundle.architecture.kind == trained.config.family.kind
    exact, rounded = (Recogniser.load(trained.bundle, p) for p in ("fp32", "int8"))
    recordings = [noise(1.0, 1), noise(0.4, 2), noise(2.3, 3), np.empty(0, np.float32)]
    assert agreement(exact, recordings) == 1.0
    features = [exact.features(samples) for samples in recordings]
    alone = [exact.log_probs([one])[0] for one in features]
    for one, other, alike in zip(
        exact.log_probs(features), rounded.log_probs(features), alone, strict=True
    ):
        np.testing.assert_allclose(one, alike, atol=1e-4)  # whoever shares its batch
        assert np.abs(np.exp(one) - np.exp(other)).max() < 0.05
    assert len(exact.transcribe_many(recordings)) == 4


def test_the_conformer_hears_a_stream_chunk_by_chunk_as_a_whole(conformer: Trained) -> None:
    recogniser = Recogniser.load(conformer.bundle, "int8")
    shape = recogniser.bundle.architecture
    assert isinstance(shape, ConformerArchitecture)
    engine = Engine(recogniser, most_streams=4)
    callers = [Caller(engine) for _ in range(3)]
    for number, caller in enumerate(callers):
        samples = noise(1.0 + 0.37 * number, number)
        for piece in np.array_split(samples, 7):
            caller.stream.accept(piece)
        caller.stream.finish()
        (final,) = caller.finals()
        (log_probs,) = recogniser.log_probs([recogniser.features(samples)])
        partials = [event for event in caller.events if isinstance(event, Partial)]
        assert partials[-1].text == decoding.transcribe(log_probs, recogniser.tokenizer).text != ""
        whole = recogniser.transcribe(samples)  # as the decoder prefers it
        assert final.transcript.text == whole.text
        # Streams share the products of matrices, whose last bits depend on how many they are.
        assert final.transcript.confidence == pytest.approx(whole.confidence, abs=1e-4)
    engine.close(0.0)


def test_sherpa_onnx_hears_what_our_conformer_hears(conformer: Trained, tmp_path: Path) -> None:
    recogniser = Recogniser.load(conformer.bundle, "int8")
    write_sherpa(recogniser.bundle, tmp_path, "int8")
    recordings = [np.concatenate([voice(0.8 + 0.3 * seed, seed), TAIL]) for seed in range(4)]
    padded = [np.concatenate([samples, TAIL]) for samples in recordings]
    expected = [
        decoding.transcribe(log_probs, recogniser.tokenizer).text
        for log_probs in recogniser.log_probs([recogniser.features(one) for one in padded])
    ]
    assert [" ".join(text.split()) for text in sherpa(tmp_path, recordings)] == expected
    assert any(expected)


def test_sherpa_onnx_cannot_hear_whole_utterances(wav2vec2: Trained, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="hears streams"):
        write_sherpa(verify(wav2vec2.bundle), tmp_path)


def test_finals_of_a_network_that_hears_whole_utterances(wav2vec2: Trained) -> None:
    recogniser = Recogniser.load(wav2vec2.bundle, "int8")
    shape = recogniser.bundle.architecture
    assert isinstance(shape, Wav2Vec2Architecture)
    assert not shape.streaming
    engine = Engine(recogniser, most_streams=4)
    for options in (StreamOptions(endpointing=None), StreamOptions()):
        caller = Caller(engine, options)
        samples = noise(1.3, 5)
        for piece in np.array_split(samples, 5):
            caller.stream.accept(piece)
        caller.stream.finish()
        finals = caller.finals()
        if options.endpointing is None:
            expected = recogniser.transcribe(samples)
            assert [final.transcript for final in finals] == [expected]
            assert expected.text
        assert not [event for event in caller.events if isinstance(event, Partial)]
    engine.close(0.0)
    long = transcribe_long(recogniser, [voice(1.5, 3)])
    assert long.transcript.text


def test_a_recipe_chooses_a_family(conformer: Trained) -> None:
    recipe = Recipe(name="r", corpora=(), training=conformer.config)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_samples_are_heard_where_the_family_or_else_the_base_takes_them(
    conformer: Trained, wav2vec2: Trained
) -> None:
    assert hears_samples(None, wav2vec2.bundle)
    assert not hears_samples(None, conformer.bundle)
    assert not hears_samples(CONFORMER, wav2vec2.bundle)
    assert hears_samples(WAV2VEC2, None)
    assert not hears_samples(None, None)


def test_another_family_than_the_base_s_is_refused(conformer: Trained, tmp_path: Path) -> None:
    config = TrainingConfig(steps=1, family=RnnCtc())
    (one,) = conformer.sets
    staged = StagedTraining(
        request=TrainingRequest(config=config, sets=(one,), base=verify(conformer.bundle).digest),
        shards=(tuple(feature_archive.fetch(one.archive, conformer.objects, tmp_path)),),
        base=conformer.bundle,
        work=tmp_path,
        output=tmp_path / "bundle",
    )
    with pytest.raises(ConfigurationError, match="kind 'rnn_ctc'"):
        run(staged)


def test_a_resumed_training_draws_what_it_would_have_drawn(
    conformer: Trained, tmp_path: Path
) -> None:
    """Dropout and chunks are random; after a kill they are those of the uninterrupted run."""
    (one,) = conformer.sets
    utterances = list(
        feature_archive.read(feature_archive.fetch(one.archive, conformer.objects, tmp_path))
    )
    tokenizer = Tokenizer()
    examples = [
        Example(id=u.id, features=u.features, ids=tuple(tokenizer.encode(u.text)), text=u.text)
        for u in utterances
    ]

    def trainer(precision: Literal["float32", "bfloat16"] = "float32") -> Trainer:
        torch.manual_seed(0)
        network = build(sized(CONFORMER, vocabulary=len(tokenizer)))
        return Trainer(network, examples, replace(conformer.config, precision=precision))

    whole, killed, resumed = trainer(), trainer(), trainer()
    losses = [whole.step().loss for _ in range(4)]
    assert trainer("bfloat16").step().loss == pytest.approx(losses[0], rel=0.05)
    assert [killed.step().loss for _ in range(2)] == losses[:2]
    checkpoints = Checkpoints(tmp_path / "checkpoints", "training")
    checkpoints.save(killed, 0.0)
    newest = checkpoints.newest()
    assert newest
    restore(resumed, newest)
    assert [resumed.step().loss for _ in range(2)] == losses[2:]
    for name, weight in whole.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], weight, rtol=0, atol=0)


def test_the_decoder_scores_as_it_does_in_torch(conformer: Trained) -> None:
    recogniser = Recogniser.load(conformer.bundle)
    network = load_network(recogniser.bundle)
    assert isinstance(network, Conformer)
    assert network.decoder
    assert recogniser.rescorer
    encoded = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    texts = [[1, 2, 3], [3], []]
    found = recogniser.rescorer.scores(texts, encoded)
    with torch.inference_mode():
        expected = network.decoder.scores(
            torch.from_numpy(encoded).expand(3, -1, -1),
            [torch.tensor(text, dtype=torch.long) for text in texts],
            torch.tensor([9, 9, 9]),
        )
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_the_decoder_may_prefer_another_text_than_ctc(conformer: Trained) -> None:
    recogniser = Recogniser.load(conformer.bundle)
    shape, rescorer = recogniser.bundle.architecture, recogniser.rescorer
    assert isinstance(shape, ConformerArchitecture)
    assert rescorer
    encoded = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    words = [
        [Word(text=text, start_s=0.0, end_s=0.2, confidence=1.0)] for text in ("a", "bcd", "zz")
    ]
    nats = rescorer.scores([recogniser.tokenizer.encode(one.text) for (one,) in words], encoded)
    worst, best = int(np.argmin(nats)), int(np.argmax(nats))
    # So many nats of CTC weigh as much as the decoder's preference.
    even = (nats[best] - nats[worst]) * shape.attention_share / (1 - shape.attention_share)
    assert even > 0.1
    for lead, chosen in ((0.9 * even, best), (1.1 * even, worst)):
        assert rescorer.best([(lead, words[worst]), (0.0, words[best])], encoded) == words[chosen]
