"""A host owns the weights of one base model, its adapters and heads, their optimizers and its device.

The trainer talks to hosts only through the methods below and never touches a module. A host's *members* are the
policies and critics that live on it: one with the full weights, or any number of adapters over a frozen base.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.cache_utils import Cache

from collm.config.schema import LoraConfig, OptimizerConfig
from collm.errors import ModelError, NonFiniteLossError
from collm.models.adapters import AdapterSwitch
from collm.models.generation import DecodeSpec, Generation, GenerationRequest, generate
from collm.models.kv import RowCache
from collm.models.loading import LoadedModel, keeps_plain_kv
from collm.models.logprobs import token_stats
from collm.models.member import Member, Metrics, PolicyLoss, PolicyOutput, ValueLoss
from collm.models.optim import gradient_norm, learning_rate, make_optimizer
from collm.models.passes import VALUE_HEAD_FILE, DecoderPasses, ValueHead
from collm.models.sampling import RuleRows
from collm.models.sequences import MergedSequence, PolicySample, ValueInput, merge_samples, micro_batches, right_pad


class Host:
    """One base model in this process. Thread-safe: calls on one host run one after the other."""

    def __init__(self, name: str, loaded: LoadedModel, device: torch.device, micro_batch_tokens: int, gradient_checkpointing: bool) -> None:
        self.name = name
        self.device = device
        self.loaded = loaded
        self.members: dict[str, Member] = {}
        loaded.model.to(device)  # pyright: ignore[reportArgumentType]
        loaded.model.eval()
        self._token_budget = micro_batch_tokens
        self._checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            loaded.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self._passes = DecoderPasses(loaded.model, device)
        self._switch: AdapterSwitch | None = None
        self._mixes_adapters = True
        self._caches: dict[Hashable, RowCache] | None = {} if keeps_plain_kv(loaded.model) else None
        self._lock = threading.RLock()

    # -- members ---------------------------------------------------------------------------------------------------

    def add_policy(self, name: str, decode: DecodeSpec, optimizer: OptimizerConfig, lora: LoraConfig | None, seed: int) -> None:
        """Add a policy with the full weights (`lora` None; then the host can have no other member) or as an adapter."""
        self._add(name, "policy", decode, None, optimizer, lora, seed)

    def add_critic(self, name: str, features: int, optimizer: OptimizerConfig, lora: LoraConfig | None, seed: int) -> None:
        """Add a critic with a scalar head that reads `features` numbers beside the hidden state."""
        head = ValueHead(self._passes.hidden_size, features).to(self.device)
        if self._dtype() == torch.float64:
            head.double()
        self._add(name, "critic", None, head, optimizer, lora, seed)

    def _add(
        self,
        name: str,
        kind: Literal["policy", "critic"],
        decode: DecodeSpec | None,
        head: ValueHead | None,
        optimizer: OptimizerConfig,
        lora: LoraConfig | None,
        seed: int,
    ) -> None:
        if lora is None:
            if self.members:
                raise ModelError(
                    f"host {self.name}: {name} would train the weights that {next(iter(self.members))} uses; give it a host of its own"
                )
            # LM head weights that a critic never uses would only collect decay and memory.
            parameters = list(self._passes.backbone.parameters() if kind == "critic" else self.loaded.model.parameters())
        else:
            self._switch = self._switch or AdapterSwitch(self.loaded.model)
            parameters = self._switch.add(name, lora, seed)
        parameters += list(head.parameters()) if head is not None else []
        adapter = name if lora is not None else None
        if self._switch is not None and self.members:
            self._mixes_adapters = self._can_mix(next(iter(self.members)), name)
        self.members[name] = Member(name, kind, adapter, parameters, make_optimizer(parameters, optimizer), optimizer, decode, head)

    @torch.no_grad()
    def _can_mix(self, first: str, second: str) -> bool:
        """Whether the model's layers take an adapter per row (some flatten their batch; those answer one member at a time)."""
        assert self._switch is not None
        self._switch.use_rows([first, second])
        try:
            self._passes.hidden(torch.ones(2, 3, dtype=torch.long, device=self.device))
        except (ValueError, RuntimeError, IndexError):
            return False
        finally:
            self._switch.use(first)
        return True

    def _dtype(self) -> torch.dtype:
        return next(self.loaded.model.parameters()).dtype

    # -- acting ----------------------------------------------------------------------------------------------------

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Sample one macro-action per request, all members of this host in one batch."""
        with self._lock:
            specs = [self._decode(r.member) for r in requests]
            n_layers = self.loaded.model.config.get_text_config().num_hidden_layers
            with self._passes.autocast():
                if self._mixes_adapters:
                    return generate(requests, specs, self._forward, self._caches, n_layers, self.device)
                found: dict[int, Generation] = {}
                for member in dict.fromkeys(r.member for r in requests):
                    own = [i for i, r in enumerate(requests) if r.member == member]
                    answers = generate(
                        [requests[i] for i in own], [specs[i] for i in own], self._forward, self._caches, n_layers, self.device
                    )
                    found |= dict(zip(own, answers, strict=True))
                return [found[i] for i in range(len(requests))]

    def forget(self, keys: Sequence[Hashable] | None = None) -> None:
        """Drop the caches of these conversations (all where None)."""
        with self._lock:
            if self._caches is None:
                return
            if keys is None:
                self._caches.clear()
            else:
                for key in keys:
                    self._caches.pop(key, None)

    def _decode(self, member: str) -> DecodeSpec:
        spec = self.members[member].decode
        if spec is None:
            raise ModelError(f"{member} is a critic and cannot generate")
        return spec

    def _forward(self, ids_BT: Tensor, mask_BL: Tensor, positions_BT: Tensor, cache: Cache, members: Sequence[str]) -> Tensor:
        if self._switch is not None:
            self._switch.use_rows(members)
        return self._passes.last_logits(ids_BT, mask_BL, positions_BT, cache)

    # -- scoring ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, member: str, samples: Sequence[PolicySample]) -> list[float]:
        """Teacher-forced log pi(a|h) of each sample, in nats."""
        scores = [0.0] * len(samples)
        with self._lock:
            self._activate(member)
            for batch in self._policy_batches(samples):
                output, order = self._policy_pass(member, batch)
                for i, value in zip(order, output.logprob_B.tolist(), strict=True):
                    scores[i] = value
        return scores

    @torch.no_grad()
    def values(self, member: str, inputs: Sequence[ValueInput]) -> list[list[float]]:
        """V at each input's positions."""
        found: dict[int, list[float]] = {}
        with self._lock:
            self._activate(member)
            for batch in self._value_batches(inputs):
                values = self._value_pass(member, [inputs[i] for i in batch]).tolist()
                for i in batch:
                    found[i], values = values[: len(inputs[i].positions)], values[len(inputs[i].positions) :]
        return [found[i] for i in range(len(inputs))]

    # -- learning --------------------------------------------------------------------------------------------------

    def accumulate_policy(self, member: str, samples: Sequence[PolicySample], loss: PolicyLoss) -> Metrics:
        """Add the gradient of the mean loss over `samples` to a member's gradients; returns mean metrics.

        Raises NonFiniteLossError naming the member and the samples' origins; the weights are untouched then.
        """
        totals: Metrics = {}
        with self._lock, self._training(member):
            for batch in self._policy_batches(samples):
                output, order = self._policy_pass(member, batch)
                data = self._data([samples[i].data for i in order])
                self._backward(member, *loss(output, data), len(samples), [samples[i].origin for i in order], totals)
            self._check_gradient(member, [s.origin for s in samples])
        return totals

    def accumulate_values(self, member: str, inputs: Sequence[ValueInput], loss: ValueLoss) -> Metrics:
        """The same for a critic, over all positions of `inputs`."""
        totals: Metrics = {}
        n_positions = sum(len(i.positions) for i in inputs)
        with self._lock, self._training(member):
            for batch in self._value_batches(inputs):
                chosen = [inputs[i] for i in batch]
                values_P = self._value_pass(member, chosen)
                rows = [{k: v[p] for k, v in i.data.items()} for i in chosen for p in range(len(i.positions))]
                origins = [i.origin for i in chosen for _ in i.positions]
                self._backward(member, *loss(values_P, self._data(rows)), n_positions, origins, totals)
            self._check_gradient(member, [i.origin for i in inputs])
        return totals

    def step(self, member: str, update: int, updates: int) -> float:
        """Clip the accumulated gradient, take one optimizer step, clear it; returns the norm before clipping."""
        with self._lock:
            m = self.members[member]
            norm = gradient_norm(m.parameters)
            if m.optimizer_config.gradient_clip is not None:
                torch.nn.utils.clip_grads_with_norm_(m.parameters, m.optimizer_config.gradient_clip, norm)
            for group in m.optimizer.param_groups:
                group["lr"] = learning_rate(m.optimizer_config, update, updates)
            m.optimizer.step()
            m.optimizer.zero_grad(set_to_none=True)
            m.steps += 1
            self.forget()
            return float(norm)

    def discard_gradients(self) -> None:
        """Clear what was accumulated without stepping."""
        with self._lock:
            for m in self.members.values():
                m.optimizer.zero_grad(set_to_none=True)

    # -- state -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that training changes: trained weights, optimizer states, step counts."""
        return {
            name: {"weights": self._named(m), "optimizer": m.optimizer.state_dict(), "steps": m.steps} for name, m in self.members.items()
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a state made by `state` on an equal host. Raises ModelError where members or shapes differ."""
        if set(state) != set(self.members):
            raise ModelError(f"host {self.name}: the checkpoint holds {sorted(state)}, this run has {sorted(self.members)}")
        with torch.no_grad():
            for name, m in self.members.items():
                for key, parameter in self._named(m).items():
                    saved = state[name]["weights"][key]
                    if saved.shape != parameter.shape:
                        raise ModelError(
                            f"host {self.name}, {name}: {key} has shape {tuple(saved.shape)} in the checkpoint, "
                            f"{tuple(parameter.shape)} here"
                        )
                    parameter.copy_(saved)
                m.optimizer.load_state_dict(state[name]["optimizer"])
                m.steps = state[name]["steps"]
        self.forget()

    def full_state_dict(self, member: str) -> dict[str, Tensor]:
        """A member's weights under the base model's own names, its adapter merged in where it has one."""
        m = self.members[member]
        if self._switch is None or m.adapter is None:
            return {k: v.detach() for k, v in self.loaded.model.state_dict().items()}
        return self._switch.merged_state_dict(m.adapter)

    def save(self, member: str, folder: Path) -> None:
        """Write a member as a Hugging Face folder: an adapter merged into its base, a critic's head beside its backbone."""
        weights = self.full_state_dict(member)
        config = copy.deepcopy(self.loaded.model.config)
        # The type of what is written, which for a merged adapter is wider than the live base's.
        config.dtype = next(w.dtype for w in weights.values() if w.is_floating_point())
        self.loaded.model.save_pretrained(folder, state_dict=weights)
        config.save_pretrained(folder)
        head = self.members[member].value_head
        if head is not None:
            save_file({k: v.detach().cpu() for k, v in head.state_dict().items()}, folder / VALUE_HEAD_FILE)

    def _named(self, m: Member) -> dict[str, Tensor]:
        by_id = {id(p): n for n, p in self.loaded.model.named_parameters()}
        if m.value_head is not None:
            by_id |= {id(p): f"value_head.{n}" for n, p in m.value_head.named_parameters()}
        return {by_id[id(p)]: p.detach() for p in m.parameters}

    # -- passes ----------------------------------------------------------------------------------------------------

    def _activate(self, member: str) -> None:
        if self._switch is not None and (adapter := self.members[member].adapter) is not None:
            self._switch.use(adapter)

    def _training(self, member: str) -> Any:
        return _TrainingMode(self, member)

    def _policy_batches(self, samples: Sequence[PolicySample]) -> list[list[MergedSequence]]:
        return list(micro_batches(merge_samples(samples), lambda s: len(s.ids), self._token_budget))

    def _value_batches(self, inputs: Sequence[ValueInput]) -> list[list[int]]:
        return list(micro_batches(range(len(inputs)), lambda i: len(inputs[i].ids), self._token_budget))

    def _policy_pass(self, member: str, batch: Sequence[MergedSequence]) -> tuple[PolicyOutput, list[int]]:
        """Per-token statistics of every response in the batch, padded, and the samples' indices in that order."""
        ids_BT = right_pad([s.ids for s in batch], self.device)
        spans = [(b, start, stop) for b, s in enumerate(batch) for start, stop in s.spans]
        row_P = torch.cat([torch.full((stop - start,), b) for b, start, stop in spans]).to(self.device)
        column_P = torch.cat([torch.arange(start, stop) for _, start, stop in spans]).to(self.device)
        # The token at column c is predicted by the state at c - 1.
        hidden_PD, head = self._passes.positions_and_head(ids_BT, row_P, column_P - 1)
        rules = RuleRows.of([self._decode(member).rule] * len(row_P), self.device)
        stats = token_stats(hidden_PD, head, ids_BT[row_P, column_P], rules, self.loaded.model.config.get_text_config().vocab_size)
        lengths = [stop - start for _, start, stop in spans]
        mask_ST = torch.arange(max(lengths), device=self.device) < torch.tensor(lengths, device=self.device)[:, None]
        padded = [
            torch.zeros_like(mask_ST, dtype=x.dtype).masked_scatter(mask_ST, x)
            for x in (stats.logprob_T, stats.entropy_T, stats.kept_mass_T)
        ]
        return PolicyOutput(padded[0], padded[1], mask_ST, padded[2]), [i for s in batch for i in s.samples]

    def _value_pass(self, member: str, inputs: Sequence[ValueInput]) -> Tensor:
        head = self.members[member].value_head
        if head is None:
            raise ModelError(f"{member} is a policy and has no value head")
        hidden_BTD = self._passes.hidden(right_pad([i.ids for i in inputs], self.device))
        row_P = torch.tensor([b for b, i in enumerate(inputs) for _ in i.positions], device=self.device)
        column_P = torch.tensor([p for i in inputs for p in i.positions], device=self.device)
        features_PF = torch.tensor([f for i in inputs for f in i.features], device=self.device).reshape(len(row_P), -1)
        return head(hidden_BTD[row_P, column_P], features_PF)

    def _data(self, rows: Sequence[Mapping[str, float]]) -> dict[str, Tensor]:
        wide = torch.promote_types(self._dtype(), torch.float32)
        return {key: torch.tensor([row[key] for row in rows], dtype=wide, device=self.device) for key in rows[0]}

    def _backward(self, member: str, loss_B: Tensor, metrics: dict[str, Tensor], count: int, origins: list[str], totals: Metrics) -> None:
        if not torch.isfinite(loss_B).all():
            bad = [o for o, finite in zip(origins, torch.isfinite(loss_B).tolist(), strict=True) if not finite]
            raise NonFiniteLossError(f"{member}: the loss is not finite; from {', '.join(sorted(set(bad))[:8])}")
        (loss_B.sum() / count).backward()
        for key, value in {"loss": loss_B, **metrics}.items():
            if key.startswith("max_"):
                totals[key] = max(totals.get(key, -torch.inf), float(value.detach().max()))
            else:
                totals[key] = totals.get(key, 0.0) + float(value.detach().sum()) / count

    def _check_gradient(self, member: str, origins: list[str]) -> None:
        if not torch.isfinite(gradient_norm(self.members[member].parameters)):
            raise NonFiniteLossError(
                f"{member}: the gradient is not finite although the loss is; from {', '.join(sorted(set(origins))[:8])}"
            )


class _TrainingMode:
    """Activates a member; train mode only where gradient checkpointing needs it (dropout is off in every model)."""

    def __init__(self, host: Host, member: str) -> None:
        self._host = host
        self._member = member

    def __enter__(self) -> None:
        self._host._activate(self._member)
        if self._host._checkpointing:
            self._host.loaded.model.train()

    def __exit__(self, *exc: object) -> None:
        self._host.loaded.model.eval()
