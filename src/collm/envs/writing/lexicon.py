"""Stopwords and transition phrases by category: the project's own, or a file of the same form.

    {"stopwords": ["a", ...], "transition_words": {"contrast": ["however", "on the other hand", ...], ...}}

Case does not matter; everything is lower-cased when it is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from collm.errors import ConfigError

BUILT_IN = Path(__file__).with_name("lexicon.json")
_FORM = '{"stopwords": [...], "transition_words": {"contrast": ["however", ...], ...}}'


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of transition."""

    name: str
    phrases: tuple[str, ...]
    at_boundaries: re.Pattern[str]
    """Finds any of the phrases as whole words; any run of whitespace stands for a space."""

    def found_in(self, lowered: str, match: Literal["words", "substring"]) -> bool:
        """Whether a lower-cased text has one of the phrases. Takes linear time."""
        if match == "words":
            return self.at_boundaries.search(lowered) is not None
        return any(phrase in lowered for phrase in self.phrases)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """A lexicon, lower-cased."""

    stopwords: frozenset[str]
    categories: tuple[Category, ...]

    def __deepcopy__(self, memo: dict[int, Any]) -> Lexicon:
        return self  # immutable; tree rollouts copy environments often


def load_lexicon(path: str | None) -> Lexicon:
    """The lexicon of a .json file; None is the project's own. Raises ConfigError naming file, place and mend."""
    file = BUILT_IN if path is None else Path(path).expanduser()
    try:
        changed = file.stat().st_mtime_ns
    except OSError as error:
        raise ConfigError(f"task.lexicon: {file} cannot be read ({error.strerror}; looked in {Path.cwd()}); give a .json file") from error
    return _read(file, changed)


@lru_cache(maxsize=16)
def _read(file: Path, changed: int) -> Lexicon:
    """`changed` is in the key so that an edited file is read again."""
    where = f"task.lexicon: {file}"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{where} cannot be read ({error.strerror}); give a .json file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits, or nested too deeply
        raise ConfigError(f"{where} cannot be read as JSON: {error}") from error
    return parse_lexicon(content, where)


def parse_lexicon(content: object, where: str) -> Lexicon:
    """A lexicon from decoded JSON. Raises ConfigError that begins with `where`."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected an object like {_FORM}, got {type(content).__name__}")
    for key in ("stopwords", "transition_words"):
        if key not in content:
            raise ConfigError(f"{where}: key {key!r} is missing (keys: {', '.join(map(str, content)) or 'none'}); it is like {_FORM}")
    unknown = [str(key) for key in content if key not in ("stopwords", "transition_words")]
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; it has stopwords and transition_words, like {_FORM}")
    stopwords = _texts(content["stopwords"], f"{where}, stopwords")
    kinds = content["transition_words"]
    if not isinstance(kinds, Mapping) or not kinds:
        raise ConfigError(f"{where}, transition_words: expected an object with a list of phrases per category, got {str(kinds)[:60]}")
    categories = tuple(_category(str(name), phrases, f"{where}, transition_words.{name}") for name, phrases in kinds.items())
    return Lexicon(frozenset(stopwords), categories)


def _category(name: str, phrases: object, where: str) -> Category:
    texts = _texts(phrases, where)
    if not texts:
        raise ConfigError(f"{where}: the list is empty, so it could never be found; give at least one phrase or leave the category out")
    either = "|".join(r"\s+".join(map(re.escape, text.split())) for text in texts)
    return Category(name, texts, re.compile(rf"(?<!\w)(?:{either})(?!\w)"))


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{where}: expected a list of texts, got {type(value).__name__}")
    for i, text in enumerate(value):
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{where}: entry {i} is {text!r}, not a word or phrase")
    return tuple(text.lower() for text in value)
