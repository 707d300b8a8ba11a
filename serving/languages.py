"""The language that is served: the model's. A request may name it, and cannot choose another."""

from babel import Locale

from hearloop.errors import InvalidInput

__all__ = ["check_asked", "spoken_name"]


def check_asked(asked: object, served: str) -> None:
    """Raises InvalidInput where a request asks for another language than the one `served`.

    Tags of one language are one, `it` and `it-CH`: a model is asked for what it was trained for.
    """
    if asked is None or asked == "":
        return
    if not isinstance(asked, str) or _code(asked) != _code(served):
        raise InvalidInput(
            f"The language {str(asked)[:20]!r} is not served; the model hears {served!r}: send "
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
