"""A host owns the weights of one base model, its adapters and heads, their optimizers and its device.

The trainer talks to hosts only through the methods below and never touches a module. A host's *members* are the
policies and critics that live on it: one with the full weights, or any number of adapters over a frozen base.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from collm.config.schema import LoraConfig, OptimizerConfig
from collm.errors import ModelError
from collm.models.accumulation import Accumulation
from collm.models.adapters import AdapterSwitch
from collm.models.cuda_attention import attend_without_cudnn
from collm.models.decode_graph import Record, StepRecorder
from collm.models.generation import Decoder, Generation, GenerationRequest
from collm.models.host_batch import HostBatch
from collm.models.kv import RowCache
from collm.models.loading import LoadedModel, keeps_plain_kv
from collm.models.member import Member, Metrics, PolicyLoss, PolicyOutput, ValueLoss
from collm.models.optim import Progress, make_optimizer
from collm.models.passes import DecoderPasses, ValueHead, save_folder
from collm.models.prefix_tree import join, share_prefixes
from collm.models.rows import DecodeSpec
from collm.models.sequences import (
    MergedSequence,
    Places,
    PolicySample,
    TreeLayout,
    ValueInput,
    filled_batches,
    merge_samples,
    micro_batches,
)
from collm.models.teacher_forcing import policy_output, value_output


class Host:
    """One base model in this process. Thread-safe: calls on one host run one after the other."""

    def __init__(self, name: str, loaded: LoadedModel, device: torch.device, micro_batch_tokens: int, gradient_checkpointing: bool) -> None:
        self.name = name
        self.device = device
        self.loaded = loaded
        self.members: dict[str, Member] = {}
        attend_without_cudnn(device)
        loaded.model.to(device)  # pyright: ignore[reportArgumentType]
        loaded.model.eval()
        self._token_budget = micro_batch_tokens
        self._checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            loaded.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            # Such checkpoints need no gradient of the embeddings, for which transformers sets a hook: where there are hooks, modules
            # are called as they are, and tokens are decoded by transformers' layers.
            loaded.model.disable_input_require_grads()
        self._passes = DecoderPasses(loaded.model, device)
        self._recorder: StepRecorder | None = None
        self._switch: AdapterSwitch | None = None
        self._reference: DecoderPasses | None = None
        self._mixes_adapters = True
        self._caches: dict[Hashable, RowCache] | None = {} if keeps_plain_kv(loaded.model) else None
        self._lock = threading.RLock()

    # -- members ---------------------------------------------------------------------------------------------------

    def add_policy(
        self,
        name: str,
        decode: DecodeSpec,
        optimizer: OptimizerConfig,
        lora: LoraConfig | None,
        seed: int,
        *,
        value_features: int | None = None,
        reference: bool = False,
    ) -> None:
        """Add a policy with the full weights (`lora` None; then the host can have no other member) or as an adapter.

        `value_features`: put a value head on its backbone that reads so many numbers beside the hidden state.
        `reference`: its losses compare it with the initial weights, of which full tuning needs a frozen copy.
        """
        head = None
        if value_features is not None:
            if not self._passes.has_plain_head:
                raise ModelError(
                    f"{name}: critic.shared_backbone needs a model whose logits are its output layer's; "
                    f"those of {self.name} are scaled or capped: use critic.shared_backbone=false"
                )
            head = self._head(value_features)
        self._add(name, "policy", decode, head, optimizer, lora, seed)
        if reference and lora is None and self._reference is None:
            frozen = copy.deepcopy(self.loaded.model).requires_grad_(False)
            self._reference = DecoderPasses(frozen, self.device)

    def add_critic(
        self, name: str, features: int, optimizer: OptimizerConfig, lora: LoraConfig | None, seed: int, *, slow_rate: float | None = None
    ) -> None:
        """Add a critic with a scalar head that reads `features` numbers beside the hidden state.

        With `slow_rate` it has a slow copy, which moves that share of the way after each step.
        """
        self._add(name, "critic", None, self._head(features), optimizer, lora, seed)
        if slow_rate is not None:
            m = self.members[name]
            m.slow, m.slow_rate = [p.detach().clone() for p in m.parameters], slow_rate

    def _head(self, features: int) -> ValueHead:
        head = ValueHead(self._passes.hidden_size, features).to(self.device)
        return head.double() if self._dtype() == torch.float64 else head

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
            self._passes.modules_changed()
        parameters += list(head.parameters()) if head is not None else []
        adapter = name if lora is not None else None
        if self._switch is not None and self.members:
            self._mixes_adapters = self._can_mix(next(iter(self.members)), name)
        self.members[name] = Member(name, kind, adapter, parameters, make_optimizer(parameters, optimizer), optimizer, decode, head)

    @torch.no_grad()
    def _can_mix(self, first: str, second: str) -> bool:
        """Whether the model's layers take an adapter per row (some flatten their batch; those answer one member at a time)."""
        assert self._switch is not None
        # How layers are computed is found out at the first pass, with a row of its own: not with two adapters' rows.
        self._switch.use(first)
        self._passes.hidden(torch.ones(1, 3, dtype=torch.long, device=self.device))
        self._switch.use_rows([first, second])
        try:
            self._passes.hidden(torch.ones(2, 3, dtype=torch.long, device=self.device))
        except torch.OutOfMemoryError:
            raise
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
        batch = self.open_batch()
        batch.admit(requests)
        found = {id(request): generation for request, generation in batch.decode()}
        return [found[id(request)] for request in requests]

    def open_batch(self) -> HostBatch:
        """An empty batch on this host, for conversations that come and go."""
        return HostBatch(self)

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

    @property
    def mixes_adapters(self) -> bool:
        """Whether one pass may serve several members."""
        return self._mixes_adapters

    @property
    def decodes_itself(self) -> bool:
        """Whether tokens are decoded by collm's own step, which the first one has been compared with the model's."""
        return self._passes.decodes_itself

    @contextmanager
    def generating(self) -> Iterator[None]:
        """Around steps of generation: nothing else uses the host meanwhile, and weights are cast once for all of them."""
        with self._lock, self._passes.autocast():
            yield

    def record_steps(self, record: Record | None) -> None:
        """Decode by recorded steps from now on where that fits the model (`decode_graph.py`); None: by plain ones."""
        self._recorder = StepRecorder(self._passes, record) if record is not None else None

    def decoder(self) -> Decoder:
        """What a batch on this host works with."""
        n_layers = self.loaded.model.config.get_text_config().num_hidden_layers
        record = self._recorder.recorded if self._recorder is not None else None
        return Decoder(self._forward, self._decode, self._caches, n_layers, self.device, self._token_budget, record)

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
    def score(self, member: str, samples: Sequence[PolicySample]) -> list[tuple[float, ...]]:
        """Teacher-forced log pi of each response token of each sample, in nats; their sum is log pi(a|h)."""
        scores: dict[int, tuple[float, ...]] = {}
        with self._lock:
            self._activate(member)
            for batch in self._policy_batches(samples):
                output, order = self._policy_pass(member, batch, samples, reference=False, entropy=False)
                for i, row in zip(order, output.logprob_BT.tolist(), strict=True):
                    scores[i] = tuple(row[: len(samples[i].response_ids)])
        return [scores[i] for i in range(len(samples))]

    @torch.no_grad()
    def values(self, member: str, inputs: Sequence[ValueInput], slow: bool = False) -> list[list[float]]:
        """V at each input's positions; with `slow`, of the member's slow copy."""
        found: dict[int, list[float]] = {}
        with self._lock, self.members[member].slow_weights() if slow else nullcontext():
            self._activate(member)
            for batch in self._value_batches(inputs):
                values = self._value_pass(member, [inputs[i] for i in batch]).tolist()
                for i in batch:
                    found[i], values = values[: len(inputs[i].positions)], values[len(inputs[i].positions) :]
        return [found[i] for i in range(len(inputs))]

    # -- learning --------------------------------------------------------------------------------------------------

    def accumulate_policy(self, member: str, samples: Sequence[PolicySample], loss: PolicyLoss) -> Metrics:
        """Add the gradient of the weighted sum of losses over `samples` to a member's gradients; returns mean metrics.

        Raises NonFiniteLossError naming the member and the samples' origins; the weights are untouched then.
        """
        gradient = Accumulation(self.members[member], self._dtype())
        with self._lock, self._training(member):
            for batch in self._policy_batches(samples):
                output, order = self._policy_pass(member, batch, samples, loss.needs_reference)
                chosen = [samples[i] for i in order]
                data = gradient.data([s.data for s in chosen]) | gradient.token_data(chosen, output.mask_BT.shape[1])
                losses = loss(output, data)
                gradient.add(*losses, [s.weight for s in chosen], len(samples), [s.origin for s in chosen])
            gradient.check([s.origin for s in samples])
        return gradient.totals

    def accumulate_values(self, member: str, inputs: Sequence[ValueInput], loss: ValueLoss) -> Metrics:
        """The same for a critic, over all positions of `inputs`."""
        return self.learn_values(member, inputs, lambda i, _: inputs[i], loss)[1]

    def learn_values(
        self, member: str, inputs: Sequence[ValueInput], complete: Callable[[int, list[float]], ValueInput], loss: ValueLoss
    ) -> tuple[list[list[float]], Metrics]:
        """V at each input's positions, as `values`, and the gradient of a loss that depends on them, as `accumulate_values`.

        `complete` is told an input's index and values and gives it with the data and weights of its loss. That saves a pass
        where targets are made of the values that the present weights give. Metrics are means over positions of positive weight.
        """
        gradient = Accumulation(self.members[member], self._dtype())
        found: dict[int, list[float]] = {}
        learned = 0
        with self._lock, self._training(member):
            for batch in self._value_batches(inputs):
                values_P = self._value_pass(member, [inputs[i] for i in batch])
                values = values_P.tolist()
                for i in batch:
                    found[i], values = values[: len(inputs[i].positions)], values[len(inputs[i].positions) :]
                chosen = [complete(i, found[i]) for i in batch]
                rows = [{k: v[p] for k, v in i.data.items()} for i in chosen for p in range(len(i.positions))]
                origins = [i.origin for i in chosen for _ in i.positions]
                weights = [w for i in chosen for w in i.weights or (1.0,) * len(i.positions)]
                learned += sum(w > 0 for w in weights)
                gradient.add(*loss(values_P, gradient.data(rows)), weights, 1, origins)
            gradient.check([i.origin for i in inputs])
        means = {key: value if key.startswith("max_") else value / learned for key, value in gradient.totals.items()}
        return [found[i] for i in range(len(inputs))], means

    def step(self, member: str, at: Progress) -> float:
        """Clip the accumulated gradient, take one optimizer step, clear it; returns the norm before clipping."""
        with self._lock:
            norm = self.members[member].take_step(at)
            self._forget_recorded()
            self.forget()
            return norm

    def discard_gradients(self) -> None:
        """Clear what was accumulated without stepping."""
        with self._lock:
            for m in self.members.values():
                m.optimizer.zero_grad(set_to_none=True)

    # -- state -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that training changes: trained weights, optimizer states, step counts, slow copies."""
        return {name: m.state(self._names(m)) for name, m in self.members.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a state made by `state` on an equal host. Raises ModelError where members or shapes differ."""
        if set(state) != set(self.members):
            raise ModelError(f"host {self.name}: the checkpoint holds {sorted(state)}, this run has {sorted(self.members)}")
        for name, m in self.members.items():
            m.load_state(state[name], self._names(m), f"host {self.name}, {name}")
        self._forget_recorded()
        self.forget()

    def full_state_dict(self, member: str) -> dict[str, Tensor]:
        """A member's weights under the base model's own names, its adapter merged in where it has one."""
        m = self.members[member]
        if self._switch is None or m.adapter is None:
            return {k: v.detach() for k, v in self.loaded.model.state_dict().items()}
        return self._switch.merged_state_dict(m.adapter)

    def save(self, member: str, folder: Path) -> None:
        """Write a member as a Hugging Face folder: an adapter merged into its base, a critic's head beside its backbone."""
        save_folder(self.loaded.model, self.full_state_dict(member), self.members[member].value_head, folder)

    def _names(self, m: Member) -> list[str]:
        """The name of each of a member's parameters."""
        by_id = {id(p): n for n, p in self.loaded.model.named_parameters()}
        if m.value_head is not None:
            by_id |= {id(p): f"value_head.{n}" for n, p in m.value_head.named_parameters()}
        return [by_id[id(p)] for p in m.parameters]

    # -- passes ----------------------------------------------------------------------------------------------------

    def _activate(self, member: str) -> None:
        if self._switch is not None and (adapter := self.members[member].adapter) is not None:
            self._switch.use(adapter)

    @contextmanager
    def _training(self, member: str) -> Iterator[None]:
        """Activates a member; train mode only where gradient checkpointing needs it (no model here has dropout then)."""
        self._activate(member)
        self._forget_recorded()
        if self._checkpointing:
            self.loaded.model.train()
        try:
            yield
        finally:
            self.loaded.model.eval()

    def _forget_recorded(self) -> None:
        if self._recorder is not None:
            self._recorder.weights_changed()

    def _policy_batches(self, samples: Sequence[PolicySample]) -> list[list[MergedSequence]]:
        merged = merge_samples(samples)
        trees = share_prefixes(samples, merged, self._token_budget)
        if trees and self._passes.takes_trees() and (self._reference is None or self._reference.takes_trees()):
            return [[join(some)] for some in filled_batches(trees, lambda s: len(s.ids), self._token_budget)]
        return list(micro_batches(merged, lambda s: len(s.ids), self._token_budget))

    def _value_batches(self, inputs: Sequence[ValueInput]) -> list[list[int]]:
        return list(micro_batches(range(len(inputs)), lambda i: len(inputs[i].ids), self._token_budget))

    def _policy_pass(
        self, member: str, batch: Sequence[MergedSequence], samples: Sequence[PolicySample], reference: bool, entropy: bool = True
    ) -> tuple[PolicyOutput, list[int]]:
        m = self.members[member]
        predict = self._reference_predict if reference else None
        return policy_output(self._passes, batch, samples, self._decode(member).rule, m.value_head, predict, entropy)

    def _reference_predict(self, ids_BT: Tensor, places: Places, tree: TreeLayout | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        if self._reference is not None:
            return self._reference.positions_and_head(ids_BT, places, tree)
        if self._switch is None:
            raise ModelError(f"host {self.name} keeps no copy of its initial weights; add the policy with reference=True")
        with self._switch.off():
            return self._passes.positions_and_head(ids_BT, places, tree)

    def _value_pass(self, member: str, inputs: Sequence[ValueInput]) -> Tensor:
        head = self.members[member].value_head
        if head is None:
            raise ModelError(f"{member} is a policy and has no value head")
        return value_output(self._passes, head, inputs)
