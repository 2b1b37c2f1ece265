"""Composes posts and abstracts from the hand-written parts of post_parts.yaml and abstract_parts.yaml.

Each comes with its noun phrases, which stand in the text word for word, so that scripted writers can copy them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

LEAST_WORDS, MOST_WORDS = 60, 120


@dataclass(frozen=True)
class Source:
    """A post or an abstract, and what its slots hold."""

    text: str
    slots: Mapping[str, str]


@cache
def _parts(name: str) -> Mapping[str, Any]:
    return yaml.safe_load((Path(__file__).parent / f"{name}_parts.yaml").read_text(encoding="utf-8"))


def fill(template: str, slots: Mapping[str, str]) -> str:
    """A template with its slots; `{Topic}` is `{topic}` with a capital letter."""
    capital = {name.capitalize(): text[:1].upper() + text[1:] for name, text in slots.items()}
    return template.format_map({**slots, **capital})


def compose_post(rng: random.Random, scene_number: int | None = None) -> Source:
    """A post in the layout of trl-lib/tldr, of a given scene or any. Slots: topic, person, span, plan."""
    parts = _parts("post")
    scenes = parts["scenes"]
    while True:
        scene = rng.choice(scenes) if scene_number is None else scenes[scene_number]
        plan, other = rng.sample(scene["plans"], 2)
        slots = {
            "topic": rng.choice(scene["topics"]),
            "person": rng.choice(scene["people"]),
            "span": rng.choice(parts["spans"]),
            "plan": plan,
        }
        told = [rng.choice(scene[part]) for part in ("starts", "troubles", "tries")]
        told += [rng.choice(parts["feelings"]), rng.choice(parts["questions"])]
        title, post = fill(rng.choice(parts["titles"]), slots), fill(" ".join(told), {**slots, "other": other})
        text = f"SUBREDDIT: r/{scene['subreddit']}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
        if LEAST_WORDS <= len(post.split()) <= MOST_WORDS and all(slot.lower() in text.lower() for slot in slots.values()):
            return Source(text, slots)


def compose_abstract(rng: random.Random, field_number: int | None = None) -> Source:
    """An abstract, of a given field or any. Slots: topic, use, method, data."""
    parts = _parts("abstract")
    fields = parts["fields"]
    while True:
        field = rng.choice(fields) if field_number is None else fields[field_number]
        numbers = {"few": str(rng.randint(2, 9)), "many": str(rng.randint(11, 64))}
        slots = {
            "topic": field["topic"],
            "use": field["use"],
            "reason": field["reason"],
            "method": rng.choice(field["methods"]),
            "how": field["how"],
            "data": rng.choice(field["data"]),
            "result": rng.choice(field["results"]).format_map(numbers),
            "implication": rng.choice(field["implications"]),
        }
        frames = [rng.choice(parts[kind]) for kind in ("openings", "gaps", "proposals", "tests", "results")]
        text = fill(" ".join([*frames, field["findings"], rng.choice(parts["endings"])]), slots)
        if LEAST_WORDS <= len(text.split()) <= MOST_WORDS:
            return Source(text, {name: slots[name] for name in ("topic", "use", "method", "data")})


def scenes() -> int:
    """How many scenes there are for posts."""
    return len(_parts("post")["scenes"])


def fields() -> int:
    """How many fields there are for abstracts."""
    return len(_parts("abstract")["fields"])
