import numpy as np

from hearloop.corpora import grammar


def test_callers_know_at_least_130_words() -> None:
    assert len(grammar.vocabulary()) >= 130


def test_sentences_have_4_to_14_words_of_the_vocabulary() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        words = grammar.sentence(rng).split()
        assert 4 <= len(words) <= 14
        assert set(words) <= grammar.vocabulary()


def test_every_word_is_said_sooner_or_later() -> None:
    rng = np.random.default_rng(0)
    said = {word for _ in range(6000) for word in grammar.sentence(rng).split()}
    assert said == grammar.vocabulary()


def test_new_products_are_new_and_asked_for() -> None:
    new_words = {word for product in grammar.NEW_PRODUCTS for word in product.split()}
    assert len(grammar.NEW_PRODUCTS) == 6
    assert not new_words & grammar.vocabulary()
    rng = np.random.default_rng(0)
    said = [set(grammar.sentence(rng, new_products=True).split()) for _ in range(400)]
    assert new_words <= set.union(*said)
    assert sum(bool(words & new_words) for words in said) > 100
