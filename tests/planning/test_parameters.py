"""What stays in memory: the plan's bytes are those of a team that is really built."""

from __future__ import annotations

import pytest
import torch
from run_tools import agent, model_folder, toy_config

from collm.algorithms.registry import has_critics, make_method
from collm.config.schema import Config
from collm.errors import ConfigError, ModelError
from collm.models.host import Host
from collm.models.optim import Progress
from collm.models.team import agent_names, build_team
from collm.planning.predict import predict
from collm.planning.records import HostMemory, Plan
from collm.planning.workload import Expected

EXPECTED = Expected(history_tokens=48, turns=2)


def plan_of(config: Config) -> Plan:
    return predict(config, lambda _: None, "cpu", EXPECTED)


def real_hosts(config: Config) -> dict[str, Host]:
    names, method = agent_names(len(config.agents)), make_method(config)
    critics = method.critics(names) if has_critics(method) else {}
    return build_team(config, names, critics, 0, {}).hosts


def size(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def stepped(host: Host) -> tuple[int, int, int]:
    """Bytes of a real host's weights, gradients and optimizer states after a step."""
    model = host.loaded.model
    heads = [p for m in host.members.values() if m.value_head is not None for p in m.value_head.parameters()]
    copies = [*host._reference.model.parameters(), *host._reference.model.buffers()] if host._reference is not None else []
    weights = size([*model.parameters(), *model.buffers(), *heads, *copies, *(p for m in host.members.values() for p in m.slow or [])])
    gradients = states = 0
    for name, member in host.members.items():
        for p in member.parameters:
            p.grad = torch.zeros_like(p)
        gradients += size([p.grad for p in member.parameters])
        host.step(name, Progress(0, 1))
        states += size(t for s in member.optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor))
    return weights, gradients, states


CASES = {
    "cc-full": {"method": "collm-cc"},
    "dc-full": {"method": "collm-dc"},
    "dc-shared-backbone": {"method": "collm-dc", "critic": {"shared_backbone": True, "global_info": "features"}},
    "cc-kl-and-slow-critic": {"method": "collm-cc", "algorithm": {"kl_coef": 0.1}, "critic": {"target_rate": 0.1}},
    "magrpo": {"method": "magrpo", "monte_carlo": {"samples": 2}},
}


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("case", CASES)
def test_weights_gradients_and_optimizer_are_those_of_a_real_team(tmp_path, case, tuning):
    model = model_folder(tmp_path / "model")
    sections = {key: value for key, value in CASES[case].items() if key != "critic"}
    own = {} if case in ("magrpo", "dc-shared-backbone") else {"tuning": tuning, "model": model}
    critic = {**own, **CASES[case].get("critic", {})}
    config = toy_config([agent(model, tuning=tuning), agent(model, tuning=tuning)], critic, context_window=64, **sections)
    (device,) = plan_of(config).devices
    hosts = real_hosts(config)
    assert [h.name for h in device.hosts] == list(hosts)
    for planned, host in zip(device.hosts, hosts.values(), strict=True):
        assert [m.name for m in planned.members] == list(host.members)
        assert (planned.weights, planned.gradients, planned.optimizer) == stepped(host)


def test_adapters_of_equal_models_share_one_base_and_export_makes_a_merged_copy(tmp_path):
    model = model_folder(tmp_path / "model")
    lora = {"tuning": "lora", "lora": {"rank": 4}}
    config = toy_config([agent(model, **lora), agent(model, **lora)], {"model": model, **lora}, method="collm-cc", context_window=64)
    plan = plan_of(config)
    (host,) = plan.devices[0].hosts
    assert host.shared
    assert [m.name for m in host.members] == ["agent_0", "agent_1", "critic"]
    assert host.export == host.base
    assert plan.disk.final == 3 * host.base


def test_only_config_json_is_read(tmp_path):
    full = model_folder(tmp_path / "model")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((tmp_path / "model" / "config.json").read_bytes())

    def hosts(model: str) -> list[tuple[int, int, int]]:
        config = toy_config([agent(model), agent(model)], {"model": model}, method="collm-cc", context_window=64)
        return [numbers(h) for h in plan_of(config).devices[0].hosts]

    assert hosts(str(bare)) == hosts(full)


def numbers(host: HostMemory) -> tuple[int, int, int]:
    return host.weights, host.activations, host.cache


def test_eight_bit_states_are_a_quarter(tmp_path):
    model = model_folder(tmp_path / "model")
    config = toy_config(
        [agent(model, optimizer={"kind": "adamw_8bit"}), agent(model)], {"model": model}, method="collm-cc", context_window=64
    )
    eight, full, _ = plan_of(config).devices[0].hosts
    # Tensors under 4096 weights, most of those of so small a model, keep fp32 states.
    assert 0.25 * full.optimizer < eight.optimizer < full.optimizer


def test_an_unknown_hub_model_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read once, at import
    config = toy_config([agent("nobody/nothing"), agent("nobody/nothing")], {"model": None}, method="collm-cc", context_window=64)
    with pytest.raises(ModelError, match=r"config\.json of model 'nobody/nothing'"):
        plan_of(config)


def test_trees_of_an_environment_of_ones_own_need_its_turns(tmp_path):
    model = model_folder(tmp_path / "model")
    config = toy_config([agent(model), agent(model)], {}, method="magrpo", monte_carlo={"samples": 2}, context_window=64)
    with pytest.raises(ConfigError, match="--turns"):
        predict(config, lambda _: None, "cpu", Expected())
