"""Speech for the hotword figures: products that training never heard of, and other phrases.

The names are fixed here, and `spoken` refuses one that a caller of the training grammar may say.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from hearloop.audio import SAMPLE_RATE, Samples, add_noise
from hearloop.corpora.espeak import speak
from hearloop.corpora.grammar import PRODUCTS, sentence, vocabulary
from hearloop.corpora.synthetic import speakers
from hearloop.recipe import Split, SyntheticCorpus

__all__ = ["DEVELOPMENT_NAMES", "OTHERS", "PRODUCT_NAMES", "spoken"]

PRODUCT_NAMES = (
    "zephyron", "quokka", "nimbus", "vortexa", "juniper", "solantis", "brixton pad", "ferrowave",
    "aquilo", "tundra box", "pixelon", "marlowe", "corvex", "hexagona", "lumina", "drakefield",
    "omnitel", "riverstone", "skylark", "velvetine", "orbitron", "castellan", "moonraker",
    "wildfire", "ironclad", "basilisk", "quantara", "halcyon", "tamarind", "cinder hub",
    "polaris", "gossamer", "firebrand", "kestrel", "oakridge", "salamander", "windmill",
    "bluebird", "harlequin", "jackdaw", "labyrinth", "magnolia", "nightshade", "obelisk",
    "pendragon", "rainmaker", "silverback", "thunderclap", "undertow", "whirlpool",
)  # fmt: skip
"""Fifty products; training says none of their words."""
OTHERS = (
    "aberdeen", "birmingham", "chesterfield", "doncaster", "edinburgh", "folkestone", "guildford",
    "huddersfield", "inverness", "jerusalem", "kilmarnock", "lancaster", "manchester", "newcastle",
    "oxfordshire", "plymouth", "queensland", "rotherham", "sunderland", "tewkesbury", "uppsala",
    "vladivostok", "wolverhampton", "yarmouth", "zanzibar", "abernathy", "blenkinsop",
    "cholmondeley",
    "davenport", "entwistle", "fitzgerald", "gallagher", "hamilton", "isherwood", "jankowski",
    "kowalski", "lombardi", "mackenzie", "nakamura", "oppenheimer", "papadopoulos", "quarrington",
    "rodriguez", "schneider", "takahashi", "underwood", "villanueva", "winterbottom", "yamamoto",
    "zimmermann",
)  # fmt: skip
"""Fifty more phrases that nobody says."""
DEVELOPMENT_NAMES = (
    "arboretum", "bramblewood", "calypso", "dragonfly", "evergreen", "falconer", "glimmer",
    "hummingbird", "icebreaker", "jasmine", "kaleidoscope", "lanternfish", "meridian", "nautilus",
    "octavia", "paragon", "quicksilver", "rosewater", "sandstorm", "topaz", "umbrella", "vanguard",
    "willowbank", "xylophone", "yellowstone", "zigzag", "amberline", "blackthorn", "copperfield",
    "driftwood", "emberstone", "foxglove", "greyhound", "hollyhock", "ivory box", "jubilee",
    "kingfisher", "limelight", "mistral", "northstar", "oyster hub", "peppermint", "quill pad",
    "redwood", "starfish", "tangerine", "unicorn", "violet", "waterfall", "yardarm",
)  # fmt: skip
"""Fifty others, by which the boost of a hotword is chosen (`benchmarks.boost`)."""
PAUSE = np.zeros(int(0.4 * SAMPLE_RATE), np.float32)
LEVEL = 0.1
"""Root mean square of the speech: about what training has."""


def spoken(
    corpus: SyntheticCorpus,
    each: int,
    names: Sequence[str] = PRODUCT_NAMES,
    split: Split = "test",
) -> Iterator[tuple[str, str, Samples]]:
    """(product, sentence, samples), `each` sentences for each product, by unheard speakers."""
    known = vocabulary() & {word for name in names for word in name.split()}
    if known:
        raise ValueError(f"training says {sorted(known)}: choose other product names")
    rng = np.random.default_rng(0)
    voices = speakers(corpus, split)
    for number, name in enumerate(names):
        for repeat in range(each):
            speaker = voices[(number * each + repeat) % len(voices)]
            text = _sentence(rng, name)
            (samples,) = speak(speaker.voice, [text])
            level = samples * np.float32(LEVEL / np.sqrt(np.mean(samples**2)))
            yield name, text, add_noise(np.concatenate([PAUSE, level, PAUSE]), speaker.snr_db, rng)


def _sentence(rng: np.random.Generator, name: str) -> str:
    """A sentence of the grammar that names one product, which becomes this one."""
    while True:
        words = sentence(rng).split()
        products = [place for place, word in enumerate(words) if word in PRODUCTS]
        if len(products) == 1:
            words[products[0]] = name
            return " ".join(words)
