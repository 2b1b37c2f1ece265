"""Which settings make sense together, and why the others do not.

Each check raises Contradiction with the reason, the mend and the keys at fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collm.config.contradiction import Contradiction

if TYPE_CHECKING:
    from collm.config.schema import Config

ACTOR_CRITIC = ("collm-cc", "collm-dc")


def check_combinations(config: Config) -> None:
    """Raise Contradiction for the first thing that makes no sense as a whole."""
    if config.method in ACTOR_CRITIC:
        _check_actor_critic(config)
        _check_critic(config)
    else:
        _check_no_critic(config)
        _check_monte_carlo(config)
    _check_ratio(config)
    if config.replay.draw is not None and config.replay.draw > config.replay.capacity:
        raise Contradiction(
            f"replay.draw={config.replay.draw} is more than replay.capacity={config.replay.capacity}", "replay.draw", "replay.capacity"
        )


def _check_no_critic(config: Config) -> None:
    """The Monte-Carlo family has no critic, so nothing can be bootstrapped from one."""
    algorithm, critic = config.algorithm, config.critic
    asked = {
        "algorithm.gae_lambda": algorithm.gae_lambda > 0,
        "algorithm.n_step": algorithm.n_step > 1,
        "algorithm.bootstrap_truncated": algorithm.bootstrap_truncated,
        "critic.kind": critic.kind != "v",
        "critic.shared_backbone": critic.shared_backbone,
        "critic.target_rate": critic.target_rate is not None,
        "critic.warmup_updates": critic.warmup_updates > 0,
        "critic.value_clip": critic.value_clip is not None,
    }
    for key, given in asked.items():
        if given:
            raise Contradiction(
                f"{key} needs a critic and method {config.method} has none: its advantages are returns less a baseline; "
                "leave it out, or choose collm-cc or collm-dc",
                key,
                "method",
            )
    if algorithm.update_every != "episode":
        raise Contradiction(
            f"algorithm.update_every={algorithm.update_every} needs TD errors, and method {config.method} needs whole returns; "
            "use algorithm.update_every=episode, or choose collm-cc or collm-dc",
            "algorithm.update_every",
            "method",
        )


def _check_monte_carlo(config: Config) -> None:
    tree, method = config.monte_carlo, config.method
    grouped = method in ("magrpo", "marloo") or (method == "maremax" and tree.baseline == "group_max")
    if grouped and tree.samples < 2:
        raise Contradiction(
            f"method {method} compares samples of one group and monte_carlo.samples=1 leaves nothing to compare; "
            "use monte_carlo.samples=2 or more, or ma-reinforce",
            "monte_carlo.samples",
            "method",
        )
    if tree.joint_mode == "crossed" and len(config.agents) < 2:
        raise Contradiction(
            "monte_carlo.joint_mode=crossed takes the product of several agents' samples and there is one agent; use aligned",
            "monte_carlo.joint_mode",
            "agents",
        )
    if tree.joint_mode == "crossed" and tree.samples < 2:
        raise Contradiction(
            "monte_carlo.joint_mode=crossed with monte_carlo.samples=1 has one joint action, as aligned has; use aligned or more samples",
            "monte_carlo.joint_mode",
            "monte_carlo.samples",
        )
    if tree.divide_by_std and method != "magrpo":
        raise Contradiction(f"monte_carlo.divide_by_std belongs to magrpo, not to {method}", "monte_carlo.divide_by_std", "method")
    if tree.baseline != "greedy" and method != "maremax":
        raise Contradiction(f"monte_carlo.baseline belongs to maremax, not to {method}", "monte_carlo.baseline", "method")


def _check_actor_critic(config: Config) -> None:
    algorithm, tree = config.algorithm, config.monte_carlo
    given = {
        # 2 is the default and 1 is what these methods do anyway.
        "monte_carlo.joint_mode": tree.joint_mode != "aligned",
        "monte_carlo.divide_by_std": tree.divide_by_std,
        "monte_carlo.baseline": tree.baseline != "greedy",
        "monte_carlo.samples": tree.samples not in (1, 2),
    }
    for key, is_given in given.items():
        if is_given:
            raise Contradiction(
                f"{key} shapes rollout trees, and {config.method} plays one joint action a turn; "
                "leave it out, or choose ma-reinforce, magrpo, marloo or maremax",
                key,
                "method",
            )
    if algorithm.gae_lambda > 0 and algorithm.n_step > 1:
        raise Contradiction(
            "algorithm.gae_lambda and algorithm.n_step are two ways to look further ahead than one turn; choose one",
            "algorithm.gae_lambda",
            "algorithm.n_step",
        )
    if algorithm.update_every != "episode" and (algorithm.gae_lambda > 0 or algorithm.n_step > 1):
        raise Contradiction(
            f"algorithm.update_every={algorithm.update_every} updates before later turns are played, which GAE and n-step returns "
            "need; use algorithm.update_every=episode, or gae_lambda=0 and n_step=1",
            "algorithm.update_every",
            "algorithm.gae_lambda" if algorithm.gae_lambda > 0 else "algorithm.n_step",
        )


def _check_critic(config: Config) -> None:
    algorithm, critic = config.algorithm, config.critic
    if critic.kind == "q":
        asked = {
            "algorithm.gae_lambda": (algorithm.gae_lambda > 0, "GAE averages state values, and Q values a response"),
            "algorithm.bootstrap_truncated": (algorithm.bootstrap_truncated, "no response follows a truncated episode for Q to value"),
            "algorithm.update_every": (algorithm.update_every != "episode", "the next response, which Q's target needs, is not there yet"),
            "critic.shared_backbone": (critic.shared_backbone, "an actor's own pass has no value after the response"),
        }
        for key, (given, reason) in asked.items():
            if given:
                raise Contradiction(f"{key} does not go with critic.kind=q: {reason}; use critic.kind=v", key, "critic.kind")
    if critic.shared_backbone:
        asked = {
            "method": (config.method == "collm-cc", "an actor reads its own history, not the joint one: use collm-dc"),
            "critic.global_info": (critic.global_info == "text", "m_t as text is not in an actor's context: use features or none"),
            "critic.model": (critic.model is not None, "the critic is the agent's own model: leave critic.model=null"),
            "critic.warmup_updates": (critic.warmup_updates > 0, "the value loss moves the actor too, so it cannot be trained alone"),
            "critic.target_rate": (critic.target_rate is not None, "a slow copy of the critic would be a copy of the whole actor"),
        }
        for key, (given, reason) in asked.items():
            if given:
                raise Contradiction(f"critic.shared_backbone does not go with {key}: {reason}", "critic.shared_backbone", key)


def _check_ratio(config: Config) -> None:
    algorithm = config.algorithm
    if algorithm.ratio != "none":
        return
    if algorithm.clip_ratio is not None:
        raise Contradiction(
            "algorithm.clip_ratio clips a ratio and algorithm.ratio=none has none; use ratio: sequence or token",
            "algorithm.clip_ratio",
            "algorithm.ratio",
        )
    stale = {
        "algorithm.epochs": algorithm.epochs > 1,
        "algorithm.minibatch": algorithm.minibatch is not None,
        "replay.max_policy_lag": config.replay.max_policy_lag > 0,
    }
    for key, given in stale.items():
        if given:
            raise Contradiction(
                f"algorithm.ratio=none trains on samples of an older policy as if they were fresh once {key} lets them grow old; "
                "use ratio: sequence or token",
                "algorithm.ratio",
                key,
            )
