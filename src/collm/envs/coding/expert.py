"""Comments on the agents' code by another model, through any OpenAI-compatible endpoint (feedback: expert)."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from collm.config.tasks.coding import ExpertSection
from collm.envs.coding.feedback import failing_tests, findings
from collm.envs.coding.problem import Problem
from collm.envs.coding.scoring import Score
from collm.errors import ConfigError, EndpointError

_BUSY = (408, 409, 425, 429)
"""Statuses, beside 5xx, that may pass."""
_MAX_ANSWER = 4 * 2**20
"""Bytes."""
_SYSTEM = (
    "You review Python code that several programmers wrote together without seeing each other's part. "
    "Say briefly what the programmer you are asked about should change in their own function so that all tests pass and the "
    "entry point makes real use of the helper. Do not write the other functions."
)


def ask_expert(expert: ExpertSection, problem: Problem, score: Score, agent: int) -> str:
    """The expert's comments for agent number `agent` (from 0). Raises EndpointError, ConfigError for an unreadable key file."""
    program = score.program
    asked = "\n\n".join(
        [
            f"Problem:\n{problem.prompt}",
            f"Joint program:\n{program.source or '(nothing usable was written)'}",
            "\n".join(["Findings:", *findings(score, failing_tests(score, problem, first=0), agent)]),
            f"What should the programmer of {program.parts[agent].name} change?",
        ]
    )
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": asked}]
    return chat(expert, messages).strip()


def chat(expert: ExpertSection, messages: list[dict[str, str]]) -> str:
    """The answer's text. Tries again where the endpoint is busy, broken or unreachable."""
    url = f"{expert.base_url}".rstrip("/") + "/chat/completions"
    body = {"model": expert.model, "messages": messages, "temperature": expert.temperature, "max_tokens": expert.max_tokens}
    request = urllib.request.Request(url, json.dumps(body).encode(), _headers(expert))
    for attempt in range(expert.retries + 1):
        try:
            return _content(_post(request, expert.timeout), url)
        except _Passing as error:
            if attempt == expert.retries:
                tries = f"{attempt + 1} tries" if attempt else "one try"
                mend = "check task.expert.base_url and that the server is up"
                raise EndpointError(f"task.expert: {url} gave no answer in {tries}: {error}; {mend}") from error
        time.sleep(2**attempt)
    raise AssertionError("the last try returns or raises")


class _Passing(Exception):
    """A failure that another try may not meet."""


def _headers(expert: ExpertSection) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if expert.api_key_file is None:
        return headers
    try:
        key = Path(expert.api_key_file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"task.expert.api_key_file: {expert.api_key_file} cannot be read: {err}; give a text file with the key") from err
    if not key.isascii() or len(key.split()) != 1:
        raise ConfigError(f"task.expert.api_key_file: {expert.api_key_file} holds no key; write it there alone, on one line")
    return {**headers, "Authorization": f"Bearer {key}"}


def _post(request: urllib.request.Request, timeout: float) -> bytes:
    """The body of the answer, within `timeout` seconds. Raises _Passing or EndpointError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # what is asked is what the configuration names
    deadline = time.monotonic() + timeout
    try:
        with opener.open(request, timeout=timeout) as answer:
            return _read(answer, deadline)
    except urllib.error.HTTPError as err:
        said = " ".join(err.read(500).decode("utf-8", "replace").split())
        what = f"status {err.code} ({err.reason}): {said or 'no text'}"
        if err.code in _BUSY or err.code >= 500:
            raise _Passing(what) from err
        raise EndpointError(
            f"task.expert: {request.full_url} refused with {what}; check task.expert.model, base_url and api_key_file"
        ) from err
    except TimeoutError as err:
        raise _Passing(f"no answer within {timeout:g} s") from err
    except (OSError, http.client.HTTPException) as err:  # URLError is an OSError
        timed_out = isinstance(err, urllib.error.URLError) and isinstance(err.reason, TimeoutError)
        raise _Passing(f"no answer within {timeout:g} s" if timed_out else f"{type(err).__name__}: {err}") from err


def _read(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := answer.read1(65536):  # one wait each, so that a server that drips is noticed
        parts.append(part)
        size += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError
        if size > _MAX_ANSWER:
            raise _Passing(f"an answer of more than {_MAX_ANSWER} bytes")
    return b"".join(parts)


def _content(body: bytes, url: str) -> str:
    """choices[0].message.content."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError) as err:
        raise _Passing(f"an answer that is no JSON: {_shown(body)}") from err
    match answer:
        case {"choices": [{"message": {"content": str(content)}}, *_]}:
            return content
    raise EndpointError(f"task.expert: {url} answered without choices[0].message.content: {_shown(body)}; is it OpenAI-compatible?")


def _shown(body: bytes) -> str:
    return " ".join(body[:200].decode("utf-8", "replace").split()) or "nothing"
