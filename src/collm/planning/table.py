"""A plan as text for people: a table per device, what it sums up to, and what to change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from collm.planning.advice import Advice
from collm.planning.records import PHASES, DevicePlan, Disk, HostMemory, MemberMemory, Phase, Plan

_COLUMNS = ("weights", "gradients", "optimizer", "activations", "logits", "KV cache")
_DURING: dict[Phase, str] = {
    "rollout": "generating",
    "update": "forward and backward",
    "step": "optimizer steps",
    "export": "writing final models",
}


def plan_view(plan: Plan, advice: Advice | None) -> RenderableType:
    """Everything there is to say, for a console of 80 columns or more."""
    parts: list[RenderableType] = []
    for device in plan.devices:
        parts += [_device_table(device), Padding(_device_summary(device), (0, 0, 1, 1))]
    parts.append(Padding(_disk(plan.disk), (0, 0, 0, 1)))
    if advice is not None:
        parts += ["", Padding(_advice(advice), (0, 0, 0, 1))]
    return Group(*parts)


def size(count: float) -> str:
    """Bytes in three digits: 512 B, 48 kB, 1.25 GB, 80.0 GB (powers of 1000)."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        del units[0]
    unit = units[0]
    digits = 0 if unit in ("B", "kB") or count >= 100 else 1 if count >= 10 else 2
    return f"{count:.{digits}f} {unit}"


def _device_table(device: DevicePlan) -> Table:
    table = Table(title=Text(device.device, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("", overflow="fold", min_width=12)
    for name in _COLUMNS:
        table.add_column(_short(name), justify="right", no_wrap=True)
    for host in device.hosts:
        for label, numbers in _rows(host):
            table.add_row(label, *(size(n) if n else "" for n in numbers))
    table.add_section()
    hosts = device.hosts
    sums = (
        sum(h.weights for h in hosts),
        sum(h.gradients for h in hosts),
        sum(h.optimizer for h in hosts),
        sum(h.activations for h in hosts),
        sum(h.logits for h in hosts),
        sum(h.cache for h in hosts),
    )
    table.add_row("all", *(size(n) if n else "" for n in sums), style="bold")
    return table


def _short(name: str) -> str:
    return {"gradients": "grads", "optimizer": "optim.", "activations": "activ."}.get(name, name)


def _rows(host: HostMemory) -> Iterator[tuple[Text, tuple[int, ...]]]:
    model = PurePath(host.model).name
    working = (host.activations, host.logits, host.cache)
    if host.shared:
        yield Text(model), (host.base, 0, 0, *working)
        yield from ((Text(f"  + {m.name}"), (m.weights, m.gradients, m.optimizer, 0, 0, 0)) for m in host.members)
    else:
        member = host.members[0]
        yield Text(f"{member.name}: {model}"), (host.base + member.weights, member.gradients, member.optimizer, *working)
    if host.copies:
        yield Text("  + frozen copies"), (host.copies, 0, 0, 0, 0, 0)


def _device_summary(device: DevicePlan) -> Text:
    said = Text()
    for phase in PHASES:
        mark, style = ("  < peak", "bold") if phase == device.fullest else ("", "")
        said.append(f"{_DURING[phase]:<21}{size(device.needed(phase)):>8}{mark}\n", style=style)
    held = f"{device.held_back:.0%} on top of activations, logits and generation for what the allocator holds back"
    said.append(f"with {size(device.process)} of the process itself,\n{held}\n", style="dim")
    if device.capacity is None:
        said.append(f"peak {size(device.peak)}; memory unknown: give --device-memory {device.device}=80GB", style="yellow")
    elif device.fits:
        said.append(f"fits: peak {size(device.peak)} of {size(device.capacity)}", style="green")
    else:
        said.append(
            f"does not fit: peak {size(device.peak)} of {size(device.capacity)}, {size(device.peak - device.capacity)} too much",
            style="red",
        )
    return said


def _disk(disk: Disk) -> Text:
    return Text(f"disk: {size(disk.checkpoints)} of checkpoints ({size(disk.checkpoint)} each), {size(disk.final)} of final models")


def _advice(advice: Advice) -> RenderableType:
    parts: list[RenderableType] = []
    if advice.together:
        makes_fit = advice.plan.fits is not False
        parts.append(Text("To make it fit, add:" if makes_fit else "Nothing known here makes it fit. Nearest is:", style="bold"))
        parts += [Text(f"  {override}", no_wrap=True, overflow="fold") for override in advice.together]
        peaks = ", ".join(f"{d.device} {size(d.peak)}" for d in advice.plan.devices)
        parts.append(Text(f"  (peak then: {peaks})", style="dim"))
    if advice.single:
        parts.append(Text("\nWhat each change saves by itself:", style="bold"))
        for suggestion in advice.single:
            parts.append(Text(f"  {size(suggestion.saving):>8}  {' '.join(suggestion.overrides)}"))
            parts.append(Text(f"            {suggestion.effect}", style="dim"))
    if not parts:
        parts.append(Text("No setting known here makes it smaller: take smaller models or a larger device.", style="bold"))
    return Group(*parts)


def plan_data(plan: Plan, advice: Advice | None) -> dict[str, object]:
    """The same as plain data, in bytes."""
    return {
        "fits": plan.fits,
        "devices": [_device_data(d) for d in plan.devices],
        "disk": {"checkpoint": plan.disk.checkpoint, "checkpoints": plan.disk.checkpoints, "final": plan.disk.final},
        "advice": None
        if advice is None
        else {
            "overrides": list(advice.together),
            "fits_then": advice.plan.fits,
            "peak_then": {d.device: d.peak for d in advice.plan.devices},
            "single": [{"overrides": list(s.overrides), "effect": s.effect, "saving": s.saving} for s in advice.single],
        },
    }


def _device_data(device: DevicePlan) -> dict[str, object]:
    return {
        "device": device.device,
        "capacity": device.capacity,
        "peak": device.peak,
        "peak_phase": device.fullest,
        "fits": device.fits,
        "process": device.process,
        "held_back": device.held_back,
        "phases": {phase: device.needed(phase) for phase in PHASES},
        "hosts": [_host_data(h) for h in device.hosts],
    }


def _host_data(host: HostMemory) -> dict[str, object]:
    return {
        "name": host.name,
        "model": host.model,
        "base": host.base,
        "copies": host.copies,
        "activations": host.activations,
        "logits": host.logits,
        "cache": host.cache,
        "generation": host.generation,
        "export": host.export,
        "peak": host.peak,
        "members": [_member_data(m) for m in host.members],
    }


def _member_data(member: MemberMemory) -> dict[str, object]:
    return {
        "name": member.name,
        "weights": member.weights,
        "gradients": member.gradients,
        "optimizer": member.optimizer,
        "step": member.step,
        "on_disk": member.on_disk,
    }
