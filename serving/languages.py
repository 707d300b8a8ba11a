"""The language that is served: the model's. A request may name it, and cannot choose another."""

from collections.abc import Sequence

from babel import Locale

from hearloop.errors import InvalidInput

__all__ = ["check_asked", "spoken_name"]


def check_asked(asked: Sequence[object], served: str) -> None:
    """Raises InvalidInput where a request names languages, and the one `served` is not among them.

    Tags of one language are one, `it` and `it-CH`: a model is asked for what it was trained for.
    """
    named = [tag for tag in asked if tag is not None and tag != ""]
    if named and not any(isinstance(tag, str) and _code(tag) == _code(served) for tag in named):
        raise InvalidInput(
            f"The language {str(named[0])[:20]!r} is not served; the model hears {served!r}: send "
            "that, or leave it out."
        )


def spoken_name(tag: str) -> str:
    """The language's English name in lower case, as OpenAI's verbose answers have it.

    >>> spoken_name("it")
    'italian'
    """
    return str(Locale(_code(tag)).get_language_name("en")).lower()


def _code(tag: str) -> str:
    """The ISO 639 code of a tag such as `es-MX`."""
    return tag.replace("_", "-").partition("-")[0].lower()
