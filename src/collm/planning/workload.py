"""How much a configuration will have in memory at once: rows that are generated together, micro-batches, and their lengths.

Prompts are not read, so a history is taken to be as long as the configuration lets it become, unless a length is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from collm.algorithms.method import Method
from collm.algorithms.registry import has_critics, make_method
from collm.config.schema import AgentConfig, Config
from collm.config.tasks import CodingSection, HouseBuildTask, StrBuildTask, TaskSection, WritingSection
from collm.envs.built_in import Split
from collm.envs.tasks import built_in
from collm.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of an environment's dialogues; None = the most that the configuration allows."""

    history_tokens: int | None = None
    """The longest history of an agent, its last response included."""
    turns: int | None = None
    """H of an environment of your own."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of one agent's dialogue, in tokens: the first prompt, a response, what follows it, and the whole history after `turns` turns."""

    turns: int
    prompt: int
    response: int
    feedback: int
    """Read at a later turn before its response."""
    history: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Sequences of one agent that are answered together: in the first and the last turn; `carried` are cached at the last turn's start."""

    first: int
    last: int
    carried: int
    sharing: int = 1
    """Rows that answer the same context."""

    def times(self, policies: int) -> Rows:
        """Of so many agents."""
        return Rows(self.first * policies, self.last * policies, self.carried * policies, self.sharing)


@dataclass(frozen=True, slots=True)
class Batch:
    """A padded micro-batch: `rows` sequences of `tokens`, each with the same response spans [start, stop)."""

    rows: int
    tokens: int
    spans: tuple[tuple[int, int], ...]


def lengths(config: Config, agent: AgentConfig, expected: Expected) -> Lengths:
    """The longest dialogue of an agent: responses of full length, the rest of the history in the first prompt.

    Raises ConfigError for an expected history that holds no response.
    """
    history, response = min(expected.history_tokens or config.context_window, config.context_window), agent.max_new_tokens
    if history <= response:
        raise ConfigError(f"option --history-tokens: {history} tokens hold no prompt beside a response of max_new_tokens={response}")
    turns = turn_limit(config, expected) or max(1, history // (2 * response))
    if config.history == "last":
        return Lengths(turns, history - response, response, history - response, history)
    # Once the window is full the oldest turns are dropped; a prompt has its share of it all the same.
    prompt = max(history - turns * response, history // (turns + 1))
    return Lengths(turns, prompt, response, max(1, (history - prompt) // turns - response), history)


def turn_limit(config: Config, expected: Expected) -> int | None:
    """H: the task's own, or the expected one of an environment of your own; None where nobody said."""
    task: TaskSection = config.task
    if task.env is not None:
        return expected.turns
    if isinstance(task, StrBuildTask | HouseBuildTask | CodingSection):
        return task.turns
    return 1 if isinstance(task, WritingSection) else expected.turns


def rollout_rows(config: Config, turns: int) -> Rows:
    """Rows per agent while training, all episodes in flight at the same depth.

    A node of a tree is answered K times, and leads to one node per joint action (method.md section 3).
    """
    method, tree = make_method(config), config.monte_carlo
    episodes = min(config.training.episodes_in_flight, config.training.episodes_per_update)
    if has_critics(method):
        return Rows(episodes, episodes, episodes if turns > 1 else 0)
    width = tree.samples ** len(config.agents) if tree.joint_mode == "crossed" else tree.samples
    per_depth = [_tree_rows(method, episodes, width, tree.samples, t) for t in range(turns)]
    return Rows(per_depth[0], per_depth[-1], per_depth[-2] if turns > 1 else 0, tree.samples)


def _tree_rows(method: Method, episodes: int, width: int, samples: int, depth: int) -> int:
    nodes = episodes * width**depth
    if has_critics(method) or not method.plays_greedy:
        return nodes * samples
    # Each sampled node plays a greedy response too, whose branch goes on greedily.
    greedy = sum(episodes * width**t for t in range(depth))
    return nodes * (samples + 1) + greedy


def evaluation_rows(config: Config, turns: int) -> Rows:
    """Rows per agent while evaluating: as many sampled episodes as asked for, at least one per test row, as many as may be in flight."""
    held_out = _test_rows(config.task)
    most = config.training.episodes_in_flight
    if held_out is not None:
        sampled = held_out * max(1, -(-config.evaluation.sampled_episodes // held_out))
        most = min(most, sampled)
    return Rows(most, most, most if turns > 1 else 0)


def _test_rows(task: TaskSection) -> int | None:
    """How many rows are held out, where the split says so; None where only the data can tell."""
    known = built_in(task)
    if task.test_rows is None and known is None:
        # No rows at all stand for one; given data may have any number.
        return 1 if task.data is None else None
    bounds = task.test_rows
    if bounds is None and known is not None:
        paper = known.paper_split if isinstance(known.paper_split, Split) else known.paper_split(task)
        bounds = (known.built_in_split if task.data is None else paper).test
    start, _, stop = (bounds or ":").partition(":")
    return int(stop) - int(start or 0) if stop else None


def policy_batch(config: Config, agent: AgentConfig, expected: Expected) -> Batch:
    """The largest micro-batch of a policy's update."""
    length = lengths(config, agent, expected)
    # With full histories the turns of an episode are one sequence; otherwise each turn is one.
    turns = length.turns if config.history == "full" else 1
    sequences = _sequences(config, length.turns)
    return Batch(_rows(config, length.history, sequences), length.history, _spans(length.history, turns, length.response))


def value_batch(config: Config, agents: list[AgentConfig], expected: Expected) -> Batch:
    """The largest micro-batch of a critic's update: the histories it reads, as far as its window holds them."""
    read = [lengths(config, agent, expected) for agent in agents]
    tokens = min(config.critic.context_window, sum(length.history for length in read))
    turns = max(length.turns for length in read)
    spans = _spans(tokens, turns if config.history == "full" else 1, max(1, tokens // (2 * turns)))
    return Batch(_rows(config, tokens, _sequences(config, turns)), tokens, spans)


def _rows(config: Config, tokens: int, sequences: int | None) -> int:
    fitting = max(1, config.training.micro_batch_tokens // tokens)
    return fitting if sequences is None else min(fitting, sequences)


def _sequences(config: Config, turns: int) -> int | None:
    """How many sequences a minibatch has at most; None where replay decides."""
    method, tree = make_method(config), config.monte_carlo
    limits = [n for n in (config.algorithm.minibatch, config.replay.draw) if n is not None]
    if config.replay.max_policy_lag == 0:
        episodes = config.training.episodes_per_update
        if has_critics(method):
            limits.append(episodes if config.history == "full" else episodes * turns)
        else:
            width = tree.samples ** len(config.agents) if tree.joint_mode == "crossed" else tree.samples
            per_depth = [episodes * width**t * tree.samples for t in range(turns)]
            limits.append(per_depth[-1] if config.history == "full" else sum(per_depth))
    return min(limits) if limits else None


def _spans(tokens: int, turns: int, response: int) -> tuple[tuple[int, int], ...]:
    """Responses of `response` tokens at the ends of equal turns, as many as there is room for."""
    share = max(2, tokens // turns)
    length = min(response, share - 1)
    ends = range(tokens, 0, -share)
    return tuple((stop - length, stop) for stop in sorted(ends) if stop - length >= 1)[-turns:]


def needs_turns(config: Config, expected: Expected) -> bool:
    """Whether rollouts cannot be sized without H: trees grow with it."""
    return turn_limit(config, expected) is None and not has_critics(make_method(config))
