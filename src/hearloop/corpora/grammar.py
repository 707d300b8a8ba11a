"""What callers say to the phone assistant: a grammar over a closed vocabulary.

A rule maps a name to alternatives; `{name}` in an alternative is replaced by an expansion of
that rule. Sentences are already normalised (hearloop.text): numbers are spelled out.
"""

import re
from collections.abc import Mapping

import numpy as np

__all__ = ["NEW_PRODUCTS", "PRODUCTS", "sentence", "vocabulary"]

PRODUCTS = (
    "router", "television", "handset", "charger", "headset", "modem",
    "tablet", "camera", "speaker", "laptop", "printer", "keyboard",
)  # fmt: skip
NEW_PRODUCTS = ("zephyr", "quokka", "nimbus", "falcon pad", "vortex", "juniper")
"""Products that did not exist when the base model was trained; none of their words is in RULES."""

NEW_PRODUCT_SHARE = 0.6
"""How often a caller asks for a new product where a product is named, once there are any."""

WORDS = (4, 14)
"""Shortest and longest sentence, in words: about 2 to 5 s of speech."""

RULES: Mapping[str, tuple[str, ...]] = {
    "sentence": (
        "my account number is {digits}",
        "my order number is {digits} and my name is {first}",
        "please call me back on {digits} {digits}",
        "this is {first} {last} and i need help with my {product}",
        "my name is {first} {last} and my number is {digits}",
        "i would like to order a new {product} for {first}",
        "can you send a {product} and a {product} to {first} {last}",
        "i want to return the {product} and the {product}",
        "please cancel the {product} that i ordered on {date}",
        "my {product} is not working since {weekday}",
        "i paid {amount} for the {product} on {date}",
        "please transfer {amount} to {first} {last}",
        "can i pay {amount} on {date}",
        "please book a visit for {first} {last} on {date}",
        "move my delivery from {weekday} to {date}",
        "why is my bill {amount} this month",
        "how much is the {product} with the {product}",
        "when will my {product} and my {product} be here",
        "does the {product} work with my old {product}",
        "i need a refund of {amount} for the {product}",
        "yes the date is {date} at {hour}",
        "check the price of the {product} and the {product} please",
    ),
    "digits": ("{digit} {digit} {digit}", "{digit} {digit} {digit} {digit}"),
    "digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "teen": (
        "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
        "eighteen", "nineteen",
    ),
    "tens": ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"),
    "amount": (
        "{teen} {currency}",
        "{tens} {digit} {currency}",
        "{tens} {currency} and {tens} {coins}",
        "{digit} hundred and {tens} {currency}",
    ),
    "currency": ("pounds", "dollars", "euros"),
    "coins": ("pence", "cents"),
    "hour": ("{teen} in the morning", "{digit} in the evening"),
    "date": ("{weekday} the {ordinal}", "the {ordinal} of {month}", "{weekday}"),
    "ordinal": (
        "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
        "tenth", "twenty first", "twenty second", "twentieth", "thirtieth",
    ),
    "weekday": (
        "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
    ),
    "month": (
        "january", "february", "march", "april", "may", "june", "july", "august", "september",
        "october", "november", "december",
    ),
    "first": ("alice", "robert", "maria", "oliver", "emma", "henry", "grace", "peter"),
    "last": ("baker", "johnson", "murphy", "taylor", "wilson", "cooper", "hughes", "palmer"),
    "product": PRODUCTS,
}  # fmt: skip

_SLOT = re.compile(r"\{(\w+)\}")


def sentence(rng: np.random.Generator, *, new_products: bool = False) -> str:
    """Draw a sentence of WORDS[0] to WORDS[1] words."""
    while True:
        drawn = _expand("sentence", rng, new_products)
        if WORDS[0] <= len(drawn.split()) <= WORDS[1]:
            return drawn


def vocabulary(*, new_products: bool = False) -> frozenset[str]:
    """Every word that a caller may say."""
    texts = [text for alternatives in RULES.values() for text in alternatives]
    texts += NEW_PRODUCTS if new_products else ()
    return frozenset(word for text in texts for word in _SLOT.sub(" ", text).split())


def _expand(rule: str, rng: np.random.Generator, new_products: bool) -> str:
    alternatives = RULES[rule]
    if rule == "product" and new_products and rng.random() < NEW_PRODUCT_SHARE:
        alternatives = NEW_PRODUCTS
    chosen = alternatives[rng.integers(len(alternatives))]
    return _SLOT.sub(lambda slot: _expand(slot[1], rng, new_products), chosen)
