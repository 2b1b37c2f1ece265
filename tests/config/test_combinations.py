"""Every combination of settings that is refused: the message names the keys, says why and how to mend it; and what is allowed passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm.config.load import config_from, resolve
from collm.config.schema import Config
from collm.errors import ConfigError

MONTE_CARLO = ["ma-reinforce", "magrpo", "marloo", "maremax"]
NO_CRITIC_CASES = [
    "algorithm.gae_lambda=0.5",
    "algorithm.n_step=2",
    "algorithm.bootstrap_truncated=true",
    "critic.kind=q",
    "critic.shared_backbone=true",
    "critic.target_rate=0.1",
    "critic.warmup_updates=1",
    "critic.value_clip=0.2",
]
TREE_CASES = [
    "monte_carlo.joint_mode=crossed",
    "monte_carlo.divide_by_std=true",
    "monte_carlo.baseline=group_max",
    "monte_carlo.samples=3",
]


def resolved(method: str, *overrides: str, **more) -> Config:
    return resolve("strbuild", method=method, overrides=overrides, **more)


def refusal(method: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        resolved(method, *overrides)
    return str(error.value)


def check(text: str, overrides: tuple[str, ...], *parts: str) -> None:
    """The message holds every part, and every override at fault is named as the place where it was set."""
    for part in parts:
        assert part in text, f"{part!r} is not in {text!r}"
    for override in overrides:
        assert f"{override.partition('=')[0]}: argument {override}" in text


# -- the Monte-Carlo family has no critic --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", MONTE_CARLO)
@pytest.mark.parametrize("override", NO_CRITIC_CASES)
def test_what_needs_a_critic_is_refused_for_methods_without_one(method, override):
    text = refusal(method, override)
    check(
        text,
        (override,),
        f"{override.partition('=')[0]} needs a critic",
        f"method {method} has none",
        "leave it out, or choose collm-cc or collm-dc",
    )
    assert "method: option --method" in text


@pytest.mark.parametrize("every", ["turn", "3"])
def test_updates_before_the_episode_ends_need_td_errors(every):
    override = f"algorithm.update_every={every}"
    check(
        refusal("magrpo", override), (override,), f"{override} needs TD errors", "needs whole returns", "use algorithm.update_every=episode"
    )


# -- rollout trees -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "more"), [("magrpo", ()), ("marloo", ()), ("maremax", ("monte_carlo.baseline=group_max",))])
def test_a_group_of_one_has_nothing_to_compare(method, more):
    override = "monte_carlo.samples=1"
    check(
        refusal(method, override, *more), (override,), f"method {method} compares samples of one group", "use monte_carlo.samples=2 or more"
    )


def test_crossed_needs_two_agents():
    text = refusal("magrpo", "monte_carlo.joint_mode=crossed", "agents.1=null")
    check(text, ("monte_carlo.joint_mode=crossed",), "there is one agent; use aligned", "agents: ")


def test_crossed_needs_two_samples():
    overrides = ("monte_carlo.joint_mode=crossed", "monte_carlo.samples=1")
    check(refusal("ma-reinforce", *overrides), overrides, "has one joint action, as aligned has; use aligned or more samples")


@pytest.mark.parametrize("method", ["ma-reinforce", "marloo", "maremax"])
def test_dividing_by_the_deviation_is_magrpos(method):
    override = "monte_carlo.divide_by_std=true"
    check(refusal(method, override), (override,), "monte_carlo.divide_by_std belongs to magrpo", f"not to {method}")


@pytest.mark.parametrize("method", ["ma-reinforce", "marloo", "magrpo"])
def test_the_choice_of_greedy_or_maximum_is_maremaxs(method):
    override = "monte_carlo.baseline=group_max"
    check(refusal(method, override), (override,), "monte_carlo.baseline belongs to maremax", f"not to {method}")


@pytest.mark.parametrize("method", ["collm-cc", "collm-dc"])
@pytest.mark.parametrize("override", TREE_CASES)
def test_actor_critic_methods_roll_out_no_trees(method, override):
    key = override.partition("=")[0]
    check(
        refusal(method, override),
        (override,),
        f"{key} shapes rollout trees",
        f"{method} plays one joint action a turn",
        "leave it out, or choose ma-reinforce",
    )


# -- actor-critic --------------------------------------------------------------------------------------------------------


def test_gae_and_n_step_returns_are_one_choice():
    overrides = ("algorithm.gae_lambda=0.5", "algorithm.n_step=2")
    check(refusal("collm-cc", *overrides), overrides, "two ways to look further ahead", "choose one")


@pytest.mark.parametrize("every", ["turn", "3"])
@pytest.mark.parametrize("longer", ["algorithm.gae_lambda=0.5", "algorithm.n_step=2"])
def test_updates_before_the_episode_ends_leave_no_longer_returns(every, longer):
    overrides = (f"algorithm.update_every={every}", longer)
    check(
        refusal("collm-dc", *overrides),
        overrides,
        "updates before later turns are played",
        "use algorithm.update_every=episode, or gae_lambda=0 and n_step=1",
    )


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("algorithm.gae_lambda=0.5", "GAE averages state values"),
        ("algorithm.bootstrap_truncated=true", "no response follows a truncated episode"),
        ("algorithm.update_every=turn", "the next response, which Q's target needs, is not there yet"),
        ("algorithm.update_every=4", "the next response, which Q's target needs, is not there yet"),
        ("critic.shared_backbone=true", "an actor's own pass has no value after the response"),
    ],
)
def test_what_does_not_go_with_q(override, reason):
    overrides = (override, "critic.kind=q")
    check(
        refusal("collm-dc", *overrides),
        overrides,
        f"{override.partition('=')[0]} does not go with critic.kind=q",
        reason,
        "use critic.kind=v",
    )


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("critic.global_info=text", "use features or none"),
        ("critic.model=tiny-a", "leave critic.model=null"),
        ("critic.warmup_updates=1", "the value loss moves the actor too"),
        ("critic.target_rate=0.1", "a slow copy of the critic would be a copy of the whole actor"),
    ],
)
def test_what_does_not_go_with_a_shared_backbone(override, reason):
    overrides = ("critic.shared_backbone=true", override)
    check(refusal("collm-dc", *overrides), overrides, f"critic.shared_backbone does not go with {override.partition('=')[0]}", reason)


def test_a_joint_critic_cannot_share_an_actors_backbone():
    override = "critic.shared_backbone=true"
    check(
        refusal("collm-cc", override),
        (override,),
        "critic.shared_backbone does not go with method",
        "use collm-dc",
        "method: option --method collm-cc"[:14],
    )


# -- ratio and replay ----------------------------------------------------------------------------------------------------


def test_without_a_ratio_there_is_nothing_to_clip():
    overrides = ("algorithm.clip_ratio=0.2", "algorithm.ratio=none")
    for method in ("collm-cc", "magrpo"):
        check(refusal(method, *overrides), overrides, "algorithm.ratio=none has none", "use ratio: sequence or token")


@pytest.mark.parametrize("stale", ["algorithm.epochs=2", "algorithm.minibatch=4", "replay.max_policy_lag=1"])
@pytest.mark.parametrize("method", ["collm-cc", "marloo"])
def test_without_a_ratio_samples_must_be_fresh(method, stale):
    overrides = ("algorithm.ratio=none", stale)
    key = stale.partition("=")[0]
    check(
        refusal(method, *overrides),
        overrides,
        "samples of an older policy as if they were fresh",
        f"once {key} lets them",
        "use ratio: sequence or token",
    )


def test_no_more_is_drawn_than_is_kept():
    overrides = ("replay.draw=9", "replay.capacity=8")
    for method in ("collm-cc", "magrpo"):
        check(refusal(method, *overrides), overrides, "replay.draw=9 is more than replay.capacity=8")
    assert resolved("collm-cc", "replay.draw=8", "replay.capacity=8").replay.draw == 8


def test_updating_after_no_transitions_is_refused():
    for value in ("0", "-1"):
        text = refusal("collm-cc", f"algorithm.update_every={value}")
        check(text, (f"algorithm.update_every={value}",), f"update_every={value}", "give episode, turn or a whole number >= 1")


def test_a_refusal_names_the_files_lines(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("method: magrpo\ncritic:\n  kind: q\n")
    with pytest.raises(ConfigError) as error:
        resolve("strbuild", config_file=file)
    assert f"critic.kind: file {file}, line 3; method: file {file}, line 1" in str(error.value)


# -- what is allowed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "overrides"),
    [
        (
            "collm-cc",
            ("algorithm.gae_lambda=0.9", "algorithm.bootstrap_truncated=true", "critic.target_rate=0.1", "critic.warmup_updates=2"),
        ),
        ("collm-cc", ("algorithm.n_step=3", "critic.kind=q", "critic.value_clip=0.2")),
        ("collm-cc", ("algorithm.update_every=turn", "algorithm.bootstrap_truncated=true")),
        ("collm-cc", ("algorithm.update_every=5", "replay.max_policy_lag=2", "critic.warmup_updates=1")),
        ("collm-cc", ("monte_carlo.samples=1",)),
        ("collm-cc", ("monte_carlo.samples=2",)),
        ("collm-dc", ("critic.shared_backbone=true", "critic.global_info=features", "algorithm.gae_lambda=0.5")),
        ("collm-dc", ("critic.shared_backbone=true", "critic.global_info=none", "algorithm.update_every=turn", "critic.value_clip=0.1")),
        ("collm-dc", ("critic.shared_backbone=true", "critic.value_coef=0.1", "algorithm.bootstrap_truncated=true")),
        ("ma-reinforce", ("monte_carlo.samples=1",)),
        ("ma-reinforce", ("monte_carlo.samples=3", "monte_carlo.joint_mode=crossed")),
        ("magrpo", ("monte_carlo.divide_by_std=true", "monte_carlo.joint_mode=crossed", "algorithm.clip_ratio=0.2", "algorithm.epochs=2")),
        ("marloo", ("monte_carlo.samples=4", "algorithm.kl_coef=0.1", "algorithm.entropy_coef=0.01")),
        ("maremax", ("monte_carlo.samples=1",)),
        ("maremax", ("monte_carlo.samples=3", "monte_carlo.joint_mode=crossed")),
        ("maremax", ("monte_carlo.baseline=group_max", "monte_carlo.samples=2")),
        ("magrpo", ("replay.max_policy_lag=1", "algorithm.ratio=token", "algorithm.minibatch=3")),
        ("magrpo", ("algorithm.ratio=none",)),
    ],
)
def test_what_goes_together_passes(method, overrides):
    assert resolved(method, *overrides).method == method


def test_a_shared_backbone_reads_m_t_as_numbers_by_default_and_other_critics_as_text():
    assert resolved("collm-dc", "critic.shared_backbone=true").critic.reads == "features"
    assert resolved("collm-dc").critic.reads == "text"
    assert resolved("collm-dc", "critic.shared_backbone=true", "critic.global_info=none").critic.reads == "none"


def test_a_complete_configuration_is_checked_as_well():
    with pytest.raises(ConfigError, match="critic.kind needs a critic and method magrpo has none"):
        config_from({"method": "magrpo", "critic": {"kind": "q"}})


# -- methods that are presets of one -------------------------------------------------------------------------------------

SINGLE = [("grpo", "magrpo"), ("rloo", "marloo"), ("remax", "maremax"), ("ac", "collm-cc")]


def by_file(name: str, folder: Path) -> Config:
    file = folder / "mine.yaml"
    file.write_text(f"method: {name}\n")
    return resolve("strbuild", config_file=file)


@pytest.mark.parametrize(("name", "algorithm"), SINGLE)
@pytest.mark.parametrize("size", ["tiny", "paper"])
def test_a_single_agent_preset_is_its_algorithm_with_one_agent(name, algorithm, size, tmp_path):
    config = resolved(name, preset=size)
    assert (config.method, len(config.agents)) == (algorithm, 1)
    assert config.agents[0].model == resolved(algorithm, preset=size).agents[0].model
    assert config.algorithm.advantage_normalization == ("batch" if (name, size) == ("ac", "tiny") else "off")


@pytest.mark.parametrize(("name", "algorithm"), SINGLE)
def test_the_preset_may_be_named_in_a_file_or_an_override(name, algorithm, tmp_path):
    expected = resolved(name)
    assert by_file(name, tmp_path) == expected
    assert resolve("strbuild", overrides=[f"method={name}"]) == expected
    assert config_from(expected.model_dump()) == expected, "what is written to the run folder is complete without its preset"


def test_what_the_presets_bring():
    assert resolved("grpo").monte_carlo.divide_by_std
    assert not resolved("magrpo").monte_carlo.divide_by_std
    assert resolved("remax").monte_carlo.samples == resolved("maremax").monte_carlo.samples == 1
    assert resolved("rloo").monte_carlo.samples == 2
    assert {resolved(m).algorithm.advantage_normalization for m in MONTE_CARLO} == {"off"}


@pytest.mark.parametrize("name", ["maremax", "remax"])
def test_remax_keeps_its_one_sample_with_the_paper_preset(name):
    """The method's preset lies over the task's: one sample against one greedy rollout."""
    assert resolved(name, preset="paper").monte_carlo.samples == 1


def test_a_later_layer_wins_over_a_methods_preset(tmp_path):
    assert resolved("grpo", "monte_carlo.divide_by_std=false", "monte_carlo.samples=4").monte_carlo.samples == 4
    assert not resolved("grpo", "monte_carlo.divide_by_std=false").monte_carlo.divide_by_std
    assert resolve("strbuild", method="magrpo", overrides=["method=grpo"]).method == "magrpo"
    assert len(resolve("strbuild", method="magrpo", overrides=["method=rloo"]).agents) == 1


def test_the_single_agents_own_settings_can_be_changed():
    config = resolved("grpo", "agents.0.model=tiny-b", "agents.0.temperature=0.7")
    assert [(a.model, a.temperature) for a in config.agents] == [("tiny-b", 0.7)]


def test_an_unknown_method_lists_the_presets_among_the_names():
    text = refusal("gpro")
    assert text.startswith("method: ")
    assert "nearest: grpo" in text
