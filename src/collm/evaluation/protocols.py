"""How agents hear one another within a turn at test time (method.md section 6). Prompts only: nothing is trained for it.

Whatever the protocol, the environment judges one answer of every agent per turn and then gives its feedback: with the
same turn limit H all teams get the same H rounds of messages with it. What a protocol adds are messages inside a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Literal

from collm.config.contradiction import Contradiction
from collm.config.nearest import nearest
from collm.config.schema import Config
from collm.errors import ConfigError

Phases = Generator[dict[str, str], Mapping[str, str], None]
"""A turn: yields who answers next and what each is told, and is sent what they answer. The last answer of each is judged."""


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """What a turn needs to know besides the observations: whether agents keep their history, and the rounds of a discussion."""

    history: Literal["full", "last"]
    discussion_rounds: int


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to play a turn. `team`: it needs two agents or more."""

    name: str
    team: bool
    phases: Callable[[Mapping[str, str], TurnSettings], Phases]


def _independently(seen: Mapping[str, str], settings: TurnSettings) -> Phases:
    """All answer at once, each what it sees itself."""
    yield dict(seen)


def _one_after_the_other(seen: Mapping[str, str], settings: TurnSettings) -> Phases:
    """In order; later ones are also told what the earlier ones saw and answered in this turn."""
    earlier: list[str] = []
    for agent, own in seen.items():
        told = own if not earlier else "\n\n".join([own, *earlier, _YOUR_TURN])
        answered = yield {agent: told}
        earlier.append(f"Before you, {agent} was told in this turn:\n{own}\n\n{agent} answered:\n{answered[agent]}")


def _discussing(seen: Mapping[str, str], settings: TurnSettings) -> Phases:
    """All answer at once; then each is told what the others answered and answers again, in every further round."""
    answered = yield dict(seen)
    for _ in range(settings.discussion_rounds):
        answered = yield {agent: _discussed(agent, seen, answered, settings.history) for agent in seen}


_YOUR_TURN = "Now it is your turn. Answer what you yourself were asked, so that it goes well with the answers above."
_ANSWER_AGAIN = "Compare this with your own answer. Then answer what you were asked once more, in full: only this answer counts."


def _discussed(agent: str, seen: Mapping[str, str], answered: Mapping[str, str], history: Literal["full", "last"]) -> str:
    """What an agent is told before it answers again. Without a history it would not know what it was asked and said."""
    own = [seen[agent], f"You answered:\n{answered[agent]}"] if history == "last" else []
    others = [f"{other} answered:\n{text}" for other, text in answered.items() if other != agent]
    return "\n\n".join([*own, *others, _ANSWER_AGAIN])


DECENTRALIZED = Protocol("decentralized", team=False, phases=_independently)
"""How a trained team acts: as `parallel`, with any number of agents."""

PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("raw", team=False, phases=_independently),
        Protocol("parallel", team=True, phases=_independently),
        Protocol("pipeline", team=True, phases=_one_after_the_other),
        Protocol("discussion", team=True, phases=_discussing),
    )
}
"""Those that can be asked for by name."""


def find_protocol(name: str | None) -> Protocol:
    """The protocol of that name; None is how a trained team acts. Raises ConfigError naming the nearest."""
    if name is None:
        return DECENTRALIZED
    if name not in PROTOCOLS:
        raise ConfigError(f"option --protocol: {name!r} is none of {', '.join(PROTOCOLS)}; nearest: {nearest(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def shaped(config: Config, protocol: Protocol) -> Config:
    """The configuration as the protocol plays it: `raw` has the first agent alone, and one turn where the task has turns to set.

    Raises ConfigError for a protocol of several agents and a team of one, and for a task that cannot be played by one agent.
    """
    if protocol.team and len(config.agents) < 2:
        raise ConfigError(
            f"option --protocol: {protocol.name} is how several agents work together and there is one; "
            "give agents.1 a section, or use --protocol raw (one model, one turn)"
        )
    if protocol.name != "raw":
        return config
    task = config.task
    if "turns" in type(task).model_fields:
        task = task.model_copy(update={"turns": 1})
    try:
        task.check_agents(1)
    except Contradiction as error:
        raise ConfigError(f"option --protocol: raw plays agents.0 alone, and {error}") from error
    return config.model_copy(update={"agents": config.agents[:1], "task": task})
