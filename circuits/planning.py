"""What a discovery takes, told before it is begun: passes, time and memory.

Time is that of one batch, scaled: its scores are made, its circuit is tested and looked into, as
the discovery does it. Memory is the most that the process took meanwhile, and what
:mod:`patching.memory` gives by formula. Of a model on paper, a directory that holds a
configuration and no weights, there is the formula alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from tasks.errors import counted

if TYPE_CHECKING:
    from circuits.clock import Progress
    from circuits.config import Config
    from patching.model import Model
    from patching.paper import Paper
    from tasks import PromptPairs

LENGTH = 64
"""Tokens of a prompt, where a model on paper has no tokenizer to say how many there are."""

NEW, CURVE, DIVIDED = 32, 10, 9
"""Prompts that a circuit is tested on anew, circuits of the page's curve, and circuits run beside
those of doubled sizes to see how many edges are enough."""


@dataclass(frozen=True)
class Plan:
    """What a discovery takes. Memory is in bytes, time in seconds, passes in forward passes of the
    whole model over all prompts.

    weights    memory of the weights, in the number type that is computed in
    formula    the most that scores take beside them, by formula; ``measured`` of one batch
    paper      whether there are no weights: then nothing is measured, and no time is known
    """

    model: str
    layers: int
    parameters: int
    dtype: str
    weights: int
    prompts: int
    tokens: int
    unit: str
    units: int
    batch_size: int
    twice: bool
    passes: Mapping[str, float]
    formula: int
    measured: int | None
    seconds: Mapping[str, float]
    limit: int | None
    paper: bool

    @property
    def total_seconds(self) -> float | None:
        """Of all steps; None on paper."""
        return None if self.paper else sum(self.seconds.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"total_seconds": self.total_seconds}

    def __str__(self) -> str:
        passes = sum(self.passes.values())
        parts = ", ".join(f"{name} {value:.0f}" for name, value in self.passes.items())
        how = f"in batches of {self.batch_size}" + (", every block twice" if self.twice else "")
        measured = "" if self.measured is None else f"{_mb(self.measured)} measured of one batch, "
        lines = [
            f"model    {self.model}: {counted(self.layers, 'layer')}, {self.parameters / 1e6:,.1f} "
            f"million weights, {_mb(self.weights)} in {self.dtype}",
            f"prompts  {counted(self.prompts, 'pair')} of up to {self.tokens} tokens, {how}",
            f"{self.unit}s    {self.units:,}",
            f"passes   about {passes:.0f} over all prompts ({parts})",
            f"memory   beside the weights {measured}at most about {_mb(self.formula)} by formula",
            f"time     {self._time()}",
        ]
        if self.paper:
            both = f"{_mb(self.weights // 2)} of weights and at most about {_mb(self.formula // 2)}"
            lines.insert(-1, f"half     in bfloat16 or float16 {both} beside them")
        return "\n".join(lines)

    def _time(self) -> str:
        from circuits.validation.forecast import in_words

        total = self.total_seconds
        if total is None:
            return "unknown: there are no weights here to try one batch with"
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.seconds.items())
        return f"{in_words(total)} ({parts})"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 1e10 else f"{size / 1e9:,.1f} GB"


def plan(
    task: str,
    model: str = "nano",
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Plan:
    """What :func:`circuits.discover` with the same arguments takes, and whether it fits.

    One batch is tried. A directory with a configuration and no weights is planned by formula: its
    prompts are as long as its tokenizer makes them, or :data:`LENGTH` tokens without one.

    >>> circuits.plan("ioi", n=8, method="attribution").units
    479

    Raises:
        CircuitsError: as for :func:`circuits.discover`.
        MethodError: scores do not fit into ``memory``, not even one prompt; what fits is named.
    """
    from circuits.config import Config

    named = {"task": task, "model": model} | options
    return planned(Config.named(named).settled(), progress)


def planned(config: Config, progress: Progress | None = None) -> Plan:
    """The plan of a configuration.

    Raises:
        CircuitsError: as for :func:`plan`.
    """
    from patching.paper import is_paper

    config.check()
    if config.model is not None and is_paper(config.model):
        return _on_paper(config)
    return _tried(config, progress)


def _on_paper(config: Config) -> Plan:
    from circuits.prompts import prompts_of
    from patching.paper import opened_on_paper

    model = opened_on_paper(config.model or "")
    if model.tokenizer is None:
        return _plan(config, model, config.count or 1, LENGTH, paper=True)
    # Prompts are made by the tokenizer; which of them the model knows cannot be seen.
    pairs = prompts_of(replace(config, model_correct=False), cast("Model", model))
    return _plan(config, model, len(pairs), pairs.clean.shape[1], paper=True)


def _plan(config: Config, model: Model | Paper, prompts: int, tokens: int, **more: Any) -> Plan:
    """What is known without a trial.

    Raises:
        MethodError: not even one prompt fits into the memory allowed.
    """
    from circuits.validation.forecast import estimate_passes
    from patching.memory import Fit, fit, taken
    from patching.nodes.layout import layout_of
    from patching.paper import Paper

    limit, size = config.sweep().memory, min(config.batch_size, prompts)
    found = Fit(size, False) if limit is None else fit(model, tokens, size, limit)
    layout = layout_of(model.anatomy, config.nodes)
    units = layout.n_edges if config.level == "edge" else layout.n_senders
    scoring = [
        float(units)
        if name == "activation"
        else estimate_passes(name, given, (config.level,), model.anatomy)
        for name, given in config.methods
    ]
    more_passes = {
        "knowing the prompts": 3.0,
        "scoring": sum(scoring),
        "testing": 4.0,
        "new prompts": 2.0 * _circuits(units) * min(NEW, prompts) / prompts,
    }
    if isinstance(model, Paper):
        number = model.parameters
    else:
        number = sum(weight.numel() for weight in model.hf.parameters())
    others: dict[str, Any] = {"measured": None, "seconds": {}, "paper": False} | more
    return Plan(
        model=config.model_label,
        layers=model.anatomy.n_layers,
        parameters=number,
        dtype=str(model.dtype).removeprefix("torch."),
        weights=number * model.dtype.itemsize,
        prompts=prompts,
        tokens=tokens,
        unit=config.level,
        units=units,
        batch_size=found.batch_size,
        twice=found.again,
        passes=more_passes,
        formula=taken(model, found.batch_size, tokens, found.again),
        limit=limit,
        **others,
    )


def _circuits(units: int) -> int:
    """About how many circuits are run to see how many edges are enough."""
    return math.ceil(math.log2(max(units, 2))) + DIVIDED


def _tried(config: Config, progress: Progress | None) -> Plan:
    """With one batch tried."""
    from circuits.clock import Clock
    from circuits.models import load_model
    from circuits.prompts import prompts_of

    clock = Clock(progress)
    with clock("opening the model"):
        model = load_model(config.model)
    with clock("making the prompts"):
        pairs = prompts_of(config, model)
    first = _plan(config, model, len(pairs), pairs.clean.shape[1])
    part = pairs[: first.batch_size]
    seconds, measured = _trial(config, model, part, progress)
    times = len(pairs) / len(part)
    circuit = seconds["testing the circuit"] / 4
    new = min(NEW, len(pairs)) / len(part) * circuit * 2 * _circuits(first.units)
    return replace(
        first,
        measured=measured,
        seconds=dict(clock.seconds)
        | {
            "scoring": seconds["scoring"] * times,
            "testing the circuit": seconds["testing the circuit"] * times,
            "looking inside": seconds["looking inside"] + (times - 1) * CURVE * circuit,
            "testing on new prompts": new,
        },
    )


def _trial(
    config: Config, model: Model, part: PromptPairs, progress: Progress | None
) -> tuple[dict[str, float], int]:
    """Seconds of each step for one batch, and the most memory that was taken meanwhile."""
    from circuits.clock import Clock
    from circuits.discover import find, measure
    from circuits.evaluate import evaluate
    from circuits.inside import look_inside
    from patching.memory import peak

    # Whatever chooses the circuit, as many are tested; choosing itself is not tried.
    plain = replace(config, select="top", top=min(config.size or 100, 100), faithful=None)
    options = config.sweep(progress)
    measure(config, model, part[:1], config.sweep())
    clock = Clock(progress)
    with peak(model) as most:
        with clock("scoring"):
            scored = measure(config, model, part, options)
        with clock("choosing the circuit"):
            graph = find(plain, scored, model, part, options)
        with clock("testing the circuit"):
            evaluation = evaluate(graph, model, part, ablation=config.ablation, batch_size=options)
        with clock("looking inside"):
            look_inside(graph, model, part, evaluation, options)
    return clock.seconds, most()
