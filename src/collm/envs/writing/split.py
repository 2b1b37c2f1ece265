"""The single-agent form: one response holds both texts."""

from __future__ import annotations

import re

MARKER = "[PARAGRAPH_SPLIT]"
_LABEL_1 = re.compile(r"paragraph 1:", re.IGNORECASE)
_LABEL_2 = re.compile(r"paragraph 2:", re.IGNORECASE)


def split_paragraphs(response: str) -> tuple[str, str]:
    """The two texts of one response, without the whitespace around them and their labels `Paragraph 1:`, `Paragraph 2:`.

    They are parted at the first `[PARAGRAPH_SPLIT]`; where there is none at the first label `Paragraph 2:`; where there
    is none either, after the first third of the characters (tasks.md section 1).
    """
    first, marker, second = response.partition(MARKER)
    if not marker:
        label = _LABEL_2.search(response)
        response = response.strip() if label is None else response
        cut = len(response) // 3 if label is None else label.start()
        first, second = response[:cut], response[cut:]
    return _without_label(first, _LABEL_1), _without_label(second, _LABEL_2)


def _without_label(text: str, label: re.Pattern[str]) -> str:
    text = text.strip()
    found = label.match(text)
    return text if found is None else text[found.end() :].strip()
