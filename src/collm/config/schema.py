"""The one typed configuration. Every field carries its one-line meaning, which `collm config` prints."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from collm.config.combinations import check_combinations
from collm.config.contradiction import Contradiction
from collm.config.section import Section
from collm.config.tasks import StrBuildTask, TaskConfig


class LoraConfig(Section):
    """Low-rank adapters over a frozen base."""

    rank: int = Field(default=16, ge=1, description="rank of the update matrices")
    alpha: float = Field(default=32.0, gt=0, description="scale numerator: the update is alpha / rank * B A")
    targets: str = Field(default="all-linear", description="module names to adapt, comma-separated, or all-linear")


class OptimizerConfig(Section):
    """AdamW and its schedule. Master weights are always fp32."""

    kind: Literal["adamw", "adamw_8bit"] = Field(
        default="adamw", description="AdamW with fp32 states, or with 8-bit ones (a quarter of them; needs the extra collm[8bit])"
    )
    learning_rate: float = Field(default=5e-6, gt=0, description="peak learning rate")
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled weight decay")
    gradient_clip: float | None = Field(default=1.0, gt=0, description="largest global gradient norm; null = no clipping")
    schedule: Literal["constant", "linear", "cosine"] = Field(default="constant", description="decay over training.updates, after warm-up")
    warmup_updates: int = Field(default=0, ge=0, description="updates over which the learning rate rises linearly from 0")


class ModelSection(Section):
    """A language model and how it is tuned."""

    model: str = Field(default="tiny-a", description="built-in name (collm list models), Hugging Face folder or Hub id")
    tuning: Literal["full", "lora"] = Field(
        default="full", description="train all weights, or an adapter over a base shared with equal models"
    )
    lora: LoraConfig = Field(default_factory=LoraConfig, description="adapter shape, for tuning: lora")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="storage of a frozen LoRA base; full tuning keeps float32 master weights"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="optimizer of this model")

    @model_validator(mode="after")
    def _master_weights(self) -> ModelSection:
        if self.tuning == "full" and self.dtype != "float32":
            raise Contradiction(
                "dtype: bfloat16 contradicts tuning: full (bf16 weights lose Adam steps near 5e-6); "
                "use dtype: float32 (bf16 autocast is on by itself on a GPU) or tuning: lora",
                "dtype",
                "tuning",
            )
        return self


class AgentConfig(ModelSection):
    """One agent: its model and its sampling."""

    temperature: float = Field(default=1.0, gt=0, description="sampling temperature; log-probabilities use the same")
    top_p: float = Field(default=1.0, gt=0, le=1, description="nucleus: smallest set of tokens with this much mass; 1 = off")
    top_k: int = Field(default=0, ge=0, description="keep the k likeliest tokens; 0 = off")
    max_new_tokens: int = Field(default=256, ge=1, description="M, the longest response in tokens")
    template_args: dict[str, Any] = Field(
        default_factory=lambda: {"enable_thinking": False}, description="extra variables for the model's chat template"
    )


class CriticConfig(ModelSection):
    """The critic (CoLLM-CC) or every agent's critic (CoLLM-DC)."""

    model: str | None = Field(default=None, description="as for agents; null = agent 0's model (CC) or each agent's own (DC)")  # type: ignore[assignment]
    kind: Literal["v", "q"] = Field(default="v", description="V(h_t, m_t), or Q(h_t, m_t, a_t) with the responses appended to the input")
    global_info: Literal["text", "features", "none"] | None = Field(
        default=None,
        description="how the critic reads m_t: text, features (numbers before the head) or none; null = text (shared_backbone: features)",
    )
    context_window: int = Field(
        default=2048, ge=16, description="longest critic input in tokens; the oldest whole turns are dropped beyond it"
    )
    value_clip: float | None = Field(
        default=None, gt=0, description="PPO-style: the value may move this far from its old value; null = off"
    )
    shared_backbone: bool = Field(
        default=False, description="collm-dc: put each agent's value head on the agent's own model, one forward pass for both"
    )
    value_coef: float = Field(default=0.6, gt=0, description="weight of the value loss beside the policy loss (shared_backbone only)")
    target_rate: float | None = Field(
        default=None, gt=0, le=1, description="bootstrap from a slow copy that moves this share of the way each optimizer step; null = off"
    )
    warmup_updates: int = Field(default=0, ge=0, description="U: only the critic learns in the first U updates")

    @property
    def reads(self) -> Literal["text", "features", "none"]:
        """How the critic reads m_t, the default resolved."""
        return self.global_info or ("features" if self.shared_backbone else "text")


class AlgorithmConfig(Section):
    """The gradient (method.md sections 3 to 5)."""

    discount: float = Field(default=0.9, ge=0, le=1, description="gamma, per turn")
    turn_weight: Literal["paper", "discounted"] = Field(
        default="paper",
        description="weight of turn t in the actors' gradient: 1 (paper, Eq. 1, 2, 4), or gamma^t (the discounted return's)",
    )
    epochs: int = Field(default=1, ge=1, description="E, passes over the drawn transitions per update")
    minibatch: int | None = Field(default=None, ge=1, description="joint transitions per optimizer step; null = all of them")
    ratio: Literal["sequence", "token", "none"] = Field(
        default="sequence", description="importance ratio rho: of the whole response (paper), of each token (PPO), or none"
    )
    clip_ratio: float | None = Field(default=None, gt=0, description="PPO clip of the ratio to [1-c, 1+c]; null = off")
    advantage_normalization: Literal["off", "batch", "per_turn"] = Field(
        default="batch", description="subtract mean and divide by deviation"
    )
    advantage_clip: float | None = Field(default=None, gt=0, description="clamp advantages to [-c, c] after normalisation; null = off")
    kl_coef: float = Field(default=0.0, ge=0, description="weight of KL(policy || initial weights), k3 estimate over the response tokens")
    entropy_coef: float = Field(default=0.0, ge=0, description="weight of the entropy bonus, mean over the response tokens")
    gae_lambda: float = Field(default=0.0, ge=0, le=1, description="lambda of GAE over turns; 0 = the TD error (paper)")
    n_step: int = Field(default=1, ge=1, description="turns of reward before bootstrapping; 1 = the TD error (paper)")
    bootstrap_truncated: bool = Field(
        default=False, description="bootstrap past an episode that was cut (for tasks cut by budget rather than by the turn limit H)"
    )
    update_every: Literal["episode", "turn"] | int = Field(
        default="episode",
        description="when to update: after the episodes, after each turn, or once this many new joint transitions are there",
    )

    @model_validator(mode="after")
    def _positive(self) -> AlgorithmConfig:
        if isinstance(self.update_every, int) and self.update_every < 1:
            raise Contradiction(f"update_every={self.update_every}; give episode, turn or a whole number >= 1", "update_every")
        return self


class MonteCarloConfig(Section):
    """Rollout trees of the Monte-Carlo family (method.md section 3)."""

    samples: int = Field(default=2, ge=1, description="K, responses each agent samples at every node")
    joint_mode: Literal["aligned", "crossed"] = Field(
        default="aligned", description="pair sample k of every agent (K joint actions a node), or take the product (K^n)"
    )
    divide_by_std: bool = Field(default=False, description="magrpo: divide by the standard deviation of the group")
    baseline: Literal["greedy", "group_max"] = Field(
        default="greedy", description="maremax: return of the greedy responses (ReMax), or the group's maximum"
    )


class ReplayConfig(Section):
    """The replay buffer."""

    capacity: int = Field(default=16384, ge=1, description="joint transitions kept; the oldest leave first")
    max_policy_lag: int = Field(
        default=0, ge=0, description="oldest usable transition, in updates; 0 = on-policy, cleared after each update"
    )
    draw: int | None = Field(default=None, ge=1, description="joint transitions drawn per epoch; null = every usable one")
    sampling: Literal["uniform", "newest"] = Field(default="uniform", description="how they are drawn when draw leaves some out")


class TrainingConfig(Section):
    """Length of a run and its batches."""

    updates: int = Field(default=40, ge=1, description="rollouts, each learned from, in the whole run")
    env_steps: int | None = Field(
        default=None, ge=1, description="end with the update that reaches this many joint actions, if it comes before updates; null = off"
    )
    episodes_per_update: int = Field(default=32, ge=1, description="episodes (rollout trees) of each rollout")
    episodes_in_flight: int = Field(default=64, ge=1, description="most episodes generated together in one batch")
    env_workers: int | None = Field(
        default=None,
        ge=0,
        description="processes that step environments beside generation; null = one per spare core (at most 8) for those that "
        "declare worker_steps, 0 = none; the results are the same",
    )
    micro_batch_tokens: int = Field(default=4096, ge=1, description="token budget of one forward-backward pass; gradients accumulate")
    gradient_checkpointing: bool = Field(default=False, description="recompute activations in the backward pass to save memory")
    cuda_graphs: bool = Field(
        default=False,
        description="replay recorded decoding steps where one fully tuned Llama, Qwen2 or Qwen3 policy alone generates on GPUs; "
        "not yet run on one",
    )
    checkpoint_every: int = Field(default=1, ge=1, description="updates between checkpoints (the last update always has one)")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints kept on disk")


class EvaluationConfig(Section):
    """Evaluation on the whole test split."""

    every: int = Field(default=10, ge=0, description="updates between evaluations; 0 = only before and after training")
    sampled_episodes: int = Field(
        default=64, ge=1, description="episodes sampled at the agents' temperature, spread over the test rows (at least one each)"
    )
    bootstrap: int = Field(default=2000, ge=100, description="resamples for the 95 % interval of the mean")
    timed_turns: int = Field(
        default=4, ge=0, description="collm eval: joint turns whose response time is measured, one call at a time; 0 = none"
    )
    discussion_rounds: int = Field(
        default=1, ge=1, description="collm eval --protocol discussion: how often a turn's answers are exchanged and given again"
    )


class WandbConfig(Section):
    """Weights & Biases tracking, only if this section is given (needs the extra collm[wandb])."""

    project: str = Field(default="collm", description="project name")
    mode: Literal["online", "offline"] = Field(default="online", description="offline keeps the run on disk")


class LoggingConfig(Section):
    """What a run writes beside its metrics."""

    episodes_per_update: int | None = Field(default=16, ge=0, description="episodes of each update written to episodes.jsonl; null = all")
    tensorboard: bool = Field(default=True, description="write TensorBoard events")
    wandb: WandbConfig | None = Field(default=None, description="Weights & Biases section; null = off")


class Config(Section):
    """A whole run."""

    seed: int = Field(default=0, ge=0, description="seeds everything: same config, same machine, same numbers")
    method: Literal["collm-cc", "collm-dc", "ma-reinforce", "magrpo", "marloo", "maremax"] = Field(
        default="collm-cc", description="the algorithm (collm list methods)"
    )
    history: Literal["full", "last"] = Field(default="full", description="agents see all their turns, or only the newest prompt")
    context_window: int = Field(
        default=2048, ge=16, description="C, tokens of an agent's history and response; the oldest whole turns are dropped beyond it"
    )
    task: TaskConfig = Field(default_factory=StrBuildTask, description="the task")
    agents: list[AgentConfig] = Field(
        default_factory=lambda: [AgentConfig(), AgentConfig()], min_length=1, description="one entry per agent"
    )
    critic: CriticConfig = Field(default_factory=CriticConfig, description="the critic or critics")
    algorithm: AlgorithmConfig = Field(default_factory=AlgorithmConfig, description="the gradient")
    monte_carlo: MonteCarloConfig = Field(
        default_factory=MonteCarloConfig, description="rollout trees (ma-reinforce, magrpo, marloo, maremax)"
    )
    replay: ReplayConfig = Field(default_factory=ReplayConfig, description="the replay buffer")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="length of the run and batches")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="evaluation on the test split")
    logging: LoggingConfig = Field(default_factory=LoggingConfig, description="what a run writes")

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        for i, agent in enumerate(self.agents):
            if agent.max_new_tokens >= self.context_window:
                raise Contradiction(
                    f"agents.{i}.max_new_tokens={agent.max_new_tokens} leaves no room for a prompt in "
                    f"context_window={self.context_window}; raise context_window or lower max_new_tokens",
                    f"agents.{i}.max_new_tokens",
                    "context_window",
                )
        self.task.check_agents(len(self.agents))
        check_combinations(self)
        return self
