"""Which split something belongs to, by a hash of its name: the same in every run and corpus."""

import hashlib

from hearloop.recipe import Split

__all__ = ["number", "split_of"]


def number(name: str) -> int:
    """A number of 64 bits that stands for `name`; it seeds what is drawn for it."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def split_of(name: str, *, dev: float, test: float) -> Split:
    """Split of what bears `name`, with the shares of the development and test splits.

    Because only the name counts, something that was once tested on is never trained on later.
    """
    share = number(name) / 2**64
    return "test" if share < test else "dev" if share < test + dev else "train"
