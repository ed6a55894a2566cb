"""What varies prompts that quote little: words, story features, function names, by keyed chance.

The lists are our own. A change to one of them, or to its order, changes what is drawn: bump the
``code`` of ``prompts``.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from cosmo_assets.core.digest import digest

_NOUNS = """\
lantern bucket pebble ladder blanket kettle feather puddle wheel basket whistle drum mirror
candle button ribbon sled raft bridge tunnel tree garden bed kitchen window doorbell letter map
apple clock cup coin ticket suitcase umbrella boot mitten scarf pocket spoon teapot pancake
carrot pumpkin acorn seed leaf branch root stone sand shell wave island river pond waterfall hill
cave meadow cloud rainbow storm snowman icicle shadow echo star moon kite balloon bubble ball
swing seesaw puppet crayon notebook pencil paintbrush jar bottle box cage nest beehive worm
spiderweb snail beetle cricket frog turtle hedgehog squirrel rabbit fox owl sparrow duck goose
donkey goat lamb pony kitten puppy baker gardener fisherman postman neighbour cousin grandmother
twin"""
_VERBS = """\
carry borrow return hide search find lose mend build paint fold knot untie stir pour spill taste
share swap count hug guess remember forget promise whisper shout listen sing hum laugh sneeze
yawn wake climb slide jump crawl tiptoe float sink dive row push pull lift drop catch throw roll
spin balance dig plant water pick peel bake wash dry sweep polish wrap open lock knock wait
follow lead race rest wander visit invite thank forgive help teach learn try wonder point trace
draw copy collect sort feed brush tame free save repair dance test melt freeze glow shine"""
_ADJECTIVES = """\
happy patient curious clumsy careful brave shy proud lonely cheerful grumpy sleepy hungry quiet
noisy gentle rough soft hard smooth bumpy sticky slippery wet dry muddy dusty shiny dull bright
dark pale striped spotted round flat crooked straight narrow wide deep yellow tall tiny huge
heavy light hollow empty full broken whole loose tight warm chilly icy fresh stale sweet sour
salty bitter crisp old new red borrowed forgotten secret strange blue honest greedy funny angry
kind fair lazy busy slow quick early late lucky wild tame polite silly wise nervous calm thirsty
ripe"""
_ACTIONS = """\
count find merge sort group filter split reverse rotate compress expand compare match encode decode
rank total swap shift flatten pair trim pad scan parse format check normalise partition interleave
remove replace collect locate convert align select join drop balance"""
_THINGS = """\
digits words pairs intervals brackets rows columns cells vowels runs gaps peaks primes factors
fractions dates hours coins prices scores votes steps paths neighbours edges tokens lines names keys
prefixes suffixes anagrams points squares layers colours ranges queues letters weights ages
measurements initials"""
_LIMITS = """\
_by_length _in_order _within_limit _without_repeats _by_first _from_end _at_most_twice _by_frequency
_above_mean _per_group"""

NOUNS, VERBS, ADJECTIVES = tuple(_NOUNS.split()), tuple(_VERBS.split()), tuple(_ADJECTIVES.split())
ACTIONS, THINGS, LIMITS = tuple(_ACTIONS.split()), tuple(_THINGS.split()), ("", *_LIMITS.split())
FEATURES = (
    "two of the characters talk, and their words stand in quotation marks",
    "something turns out otherwise than everybody thought",
    "the ending is a sad one",
    "somebody learns how to treat others better, and nobody says so aloud",
    "an early sentence quietly hints at what will happen later",
    "two wishes cannot both come true",
    "a thing that looked useless saves the day",
    "somebody is afraid and does it all the same",
)
FEATURE_SHARE = 0.25  # of stories that have a given feature; each has at least one


def places(numbers: np.ndarray, purpose: str, style: str) -> np.ndarray:
    """Place 64-bit digests on [0, 1), anew for each purpose and style (SplitMix64's finaliser)."""
    mixed = numbers ^ np.uint64(int(digest([purpose, style]), 16))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) / 2**53


def draw_words(numbers: np.ndarray, style: str) -> pl.Series:
    """Draw a noun, a verb and an adjective for every digest: ``list[str]`` of three."""
    drawn = {
        purpose: _pick(numbers, bank, purpose, style)
        for purpose, bank in (("noun", NOUNS), ("verb", VERBS), ("adjective", ADJECTIVES))
    }
    return pl.select(pl.concat_list(*drawn.values()).alias("words")).to_series()


def draw_features(numbers: np.ndarray, style: str) -> pl.Series:
    """Draw what a story is to have: each feature by a coin of its own, and one at least."""
    at = np.stack([places(numbers, feature, style) for feature in FEATURES], axis=1)
    least = at == at.min(axis=1, keepdims=True)
    sets = ((at < FEATURE_SHARE) | least) @ (1 << np.arange(len(FEATURES)))
    every = [
        [feature for bit, feature in enumerate(FEATURES) if number >> bit & 1]
        for number in range(1 << len(FEATURES))
    ]
    return pl.Series("features", every, pl.List(pl.String)).gather(sets)


def draw_function_name(numbers: np.ndarray, style: str) -> pl.Series:
    """Draw the name of a function to be written, such as ``merge_intervals_by_length``."""
    action, thing, limit = (
        _pick(numbers, bank, purpose, style)
        for purpose, bank in (("action", ACTIONS), ("thing", THINGS), ("limit", LIMITS))
    )
    return (action + "_" + thing + limit).alias("function_name")


def _pick(numbers: np.ndarray, bank: tuple[str, ...], purpose: str, style: str) -> pl.Series:
    at = (places(numbers, purpose, style) * len(bank)).astype(np.int64)
    return pl.Series(purpose, bank, pl.String).gather(at)
