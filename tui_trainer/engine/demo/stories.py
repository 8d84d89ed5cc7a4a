"""The sample `stories`: short plain texts for pretraining, put together from a small grammar. Always the same."""

from __future__ import annotations

import random

NUM_TRAIN = 1_200
NUM_HELD_OUT = 60

_NAMES = ("Mira", "Tom", "Ada", "Joon", "Lena", "Omar", "Ines", "Pavel", "Noor", "Sam", "Yuki", "Clara")
_ANIMALS = ("fox", "crow", "hedgehog", "otter", "goat", "owl", "beaver", "cat", "donkey", "heron")
_PLACES = ("the harbour", "the old mill", "the hill behind the school", "the market", "the river", "the library")
_THINGS = ("a blue kite", "a tin whistle", "a torn map", "a jar of honey", "a wooden boat", "a rusty key", "a lantern")
_WEATHER = ("It was raining", "The sun was low", "A cold wind blew", "Snow lay on the roofs", "The fog was thick")
_TROUBLES = (
    "it would not work",
    "somebody had hidden it",
    "it was too heavy to carry",
    "nobody knew what it was for",
    "it had broken in two",
)
_HELPS = (
    "showed how to turn it around",
    "held the other end",
    "remembered a song about it",
    "knew a shorter way",
    "had seen one before",
    "asked the right question",
)
_ENDS = (
    "From that day on they met there every week.",
    "They shared what was left and walked home.",
    "Nobody else ever heard of it.",
    "That evening there was soup for everyone.",
    "It was the best day of the year, they agreed.",
)

Row = dict[str, str]


def stories() -> tuple[list[Row], list[Row]]:
    """Rows to train on and held-out rows, each `{"text": …}`; no story is in both."""
    generator = random.Random(7)  # noqa: S311 - no secret
    texts: dict[str, None] = {}
    while len(texts) < NUM_TRAIN + NUM_HELD_OUT:
        texts[_story(generator)] = None
    rows = [{"text": text} for text in texts]
    return rows[:NUM_TRAIN], rows[NUM_TRAIN:]


def _story(generator: random.Random) -> str:
    pick = generator.choice
    name, animal, place, thing = pick(_NAMES), pick(_ANIMALS), pick(_PLACES), pick(_THINGS)
    noun = thing.split(" ", 1)[1]
    lines = [
        f"{pick(_WEATHER)} when {name} came to {place}.",
        f"There, beside a wall, {name} found {thing}, but {pick(_TROUBLES)}.",
        f'"Whose {noun} is this?" {name} asked the {animal} that sat nearby.',
        f'"{pick(("Yours, if you like", "Mine, but you may try", "Nobody can say"))}," said the {animal}.',
        f"They tried until it was dark. Then the {animal} {pick(_HELPS)}, and all was well.",
        pick(_ENDS),
    ]
    if generator.random() < 0.4:
        del lines[3]
    return " ".join(lines)
