"""Feedback by another model through an OpenAI-compatible endpoint, against a local server."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from collm.config.tasks import CoopHETask
from collm.config.tasks.coding import ExpertSection
from collm.envs.coding import expert as expert_module
from collm.envs.coding.env import CodingEnv
from collm.envs.coding.expert import chat
from collm.errors import ConfigError, EndpointError

ROW = {
    "task_id": "t/0",
    "prompt": 'def double(x):\n    """Double."""\n',
    "entry_point": "double",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 4\n",
}
MESSAGES = [{"role": "user", "content": "?"}]


def said(text):
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@contextmanager
def endpoint(*answers):
    """A server that gives the answers in turn, the last again and again; yields its address and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, dict(self.headers), json.loads(body)))
            answer = answers[min(len(asked), len(answers)) - 1]
            if callable(answer):
                answer(self)
                return
            status, content = answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def expert(url, **settings):
    return ExpertSection(base_url=url, model="reviewer", **settings)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    slept = []
    monkeypatch.setattr(expert_module.time, "sleep", slept.append)
    return slept


def test_every_agent_reads_comments_of_its_own():
    with endpoint(said(" For aux. "), said("For main.")) as (url, asked):
        env = CodingEnv(CoopHETask(feedback="expert", expert=expert(url, max_tokens=7)), 2)
        env.reset(seed=0, options={"task": ROW})
        observations, *_ = env.step({"agent_0": "def aux(x):\n    return x", "agent_1": "def double(x):\n    return aux(x) * 3"})
        assert observations["agent_0"] == "Turn 2 of 2.\nA reviewer says:\nFor aux.\nRevise aux: answer with all of its code again."
        assert observations["agent_1"] == "Turn 2 of 2.\nA reviewer says:\nFor main.\nRevise double: answer with all of its code again."
        (path, _, body), (_, _, second) = asked
        assert (path, body["model"], body["temperature"], body["max_tokens"]) == ("/v1/chat/completions", "reviewer", 0.0, 7)
        content = body["messages"][1]["content"]
        for part in ("Double.", "return aux(x) * 3", "Failed: assert double(2) == 4 (AssertionError)", "the programmer of aux change?"):
            assert part in content
        assert "the programmer of double change?" in second["messages"][1]["content"]
        env.step({"agent_0": "", "agent_1": ""})
        assert len(asked) == 2  # nobody is asked after the last turn


def test_a_busy_server_is_tried_again(waits):
    with endpoint((500, b"oops"), (429, b""), (200, b"<html>"), said("yes")) as (url, asked):
        assert chat(expert(url), MESSAGES) == "yes"
        assert len(asked) == 4
    assert waits == [1, 2, 4]


def test_what_stays_broken_is_named(waits):
    with endpoint((503, b"down\nfor today")) as (url, asked):
        with pytest.raises(EndpointError, match=rf"{url}/chat/completions gave no answer in 3 tries: status 503 .*: down for today; check"):
            chat(expert(url, retries=2), MESSAGES)
        assert len(asked) == 3
    with endpoint((200, b"not json")) as (url, _), pytest.raises(EndpointError, match="one try: an answer that is no JSON: not json"):
        chat(expert(url, retries=0), MESSAGES)
    with pytest.raises(EndpointError, match="one try: .*refused"):  # nobody listens there any more
        chat(expert(url, retries=0), MESSAGES)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b"bad key", r"refused with status 401 \(Unauthorized\): bad key; check .*api_key_file"),
        (404, b"", "refused with status 404 .*: no text"),
        (200, b"[]", r"without choices\[0\].message.content: \[\]"),
        (200, b'{"choices": []}', "without choices"),
        (200, b'{"choices": [{"message": {"content": null}}]}', "without choices"),
    ],
)
def test_what_another_try_does_not_mend_is_not_tried_again(status, body, message):
    with endpoint((status, body)) as (url, asked):
        with pytest.raises(EndpointError, match=message):
            chat(expert(url), MESSAGES)
        assert len(asked) == 1


def test_a_slow_or_dripping_server_is_given_up():
    def silent(handler):
        time.monotonic()
        threading.Event().wait(1.5)

    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(30):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            threading.Event().wait(0.1)

    def hang_up(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"choices"')

    for behaviour, message in ((silent, "no answer within 0.3 s"), (drip, "no answer within 0.3 s"), (hang_up, "IncompleteRead|no JSON")):
        with endpoint(behaviour) as (url, _):
            start = time.monotonic()
            with pytest.raises(EndpointError, match=message):
                chat(expert(url, timeout=0.3, retries=0), MESSAGES)
            assert time.monotonic() - start < 1.4


def test_the_key_comes_from_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("secret-1\n", encoding="utf-8")
    with endpoint(said("x")) as (url, asked):
        chat(expert(url, api_key_file=str(file)), MESSAGES)
        chat(expert(url), MESSAGES)
        assert [headers.get("Authorization") for _, headers, _ in asked] == ["Bearer secret-1", None]
        with pytest.raises(ConfigError, match="task.expert.api_key_file: .*nowhere cannot be read"):
            chat(expert(url, api_key_file=str(tmp_path / "nowhere")), MESSAGES)
        file.write_text("two words\n", encoding="utf-8")
        with pytest.raises(ConfigError, match="holds no key") as caught:
            chat(expert(url, api_key_file=str(file)), MESSAGES)
        assert "words" not in str(caught.value)
