"""The methods: what each computes, costs and accepts. This table does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.errors import MethodError, all_faults, unknown

if TYPE_CHECKING:
    from patching.linearised import Linearise


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a method: its type, default, allowed values (empty: any) and one line."""

    type: type
    default: Any
    help: str
    allowed: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """One way to score sites and edges.

    ``tier`` says what it answers: ``exact`` is the definition of what a part does alone;
    ``estimate`` is a first-order estimate of that, whose agreement with the definition depends on
    model and task; ``choice`` takes one of them, and the result says which; ``set`` ranks parts by
    the circuits that need them, and says nothing of any part alone. ``router`` says what it does at
    a token which the two runs send to different experts.
    """

    name: str
    claim: str
    cost: str
    reference: str
    tier: str
    router: str
    levels: tuple[str, ...] = ("node", "edge", "site")
    options: Mapping[str, Option] = field(default_factory=dict)

    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with defaults filled in.

        Raises:
            MethodError: an unknown option, a wrong type or a value that is not allowed.
        """
        return fill(f"method '{self.name}'", self.name, self.options, options)


def fill(
    what: str, name: str, table: Mapping[str, Option], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a table with those given instead of their defaults.

    Raises:
        MethodError: listing unknown options, wrong types and values that are not allowed.
    """
    faults, filled = [], {key: option.default for key, option in table.items()}
    for key, value in given.items():
        option = table.get(key)
        if option is None:
            faults.append(unknown(f"option of {name}", key, table or ["none"]))
        elif not _fits(value, option.type):
            faults.append(f"{key} must be {option.type.__name__}, given {value!r}")
        elif option.allowed and value not in option.allowed:
            faults.append(unknown(key, str(value), map(str, option.allowed)))
        else:
            filled[key] = value
    if faults:
        raise MethodError(all_faults(f"{what} cannot run like this:", faults))
    return filled


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (kind is float and isinstance(value, int))


QK_FIX = Option(bool, False, "sites q and k: patches answered by the exact softmax")

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "auto",
            "single sites exactly where that costs no more than the estimate that is right, else "
            "by that estimate (ig:on=activations+steps=2+qk_fix=true), with a sample checked "
            "exactly; edges by secant",
            "at most the estimate's: 6 passes from each layer on for each kind of site, and the "
            "sample",
            "this project; docs/explanation/single_sites.md",
            "choice",
            "does what the method does that it takes",
        ),
        Method(
            "activation",
            "the exact effect of replacing each site or edge by its value in the other run",
            "one patched run per site or edge, many to a forward pass",
            "Wang et al. 2022; Conmy et al. 2023",
            "exact",
            "lets the patched run choose again by what it then reads",
        ),
        Method(
            "attribution",
            "clean minus corrupted activation times the gradient at the run that is patched",
            "2 forward passes and 1 backward",
            "Nanda 2023; Syed et al. 2023 (edges); Kramar et al. 2024 (AtP*: qk_fix, grad_drop)",
            "estimate",
            "keeps the choice of the patched run",
            options={
                "qk_fix": QK_FIX,
                "grad_drop": Option(bool, False, "one more backward pass per layer, sizes summed"),
                "exact_receivers": Option(bool, False, "edges: heads and MLPs answer exactly"),
            },
        ),
        Method(
            "ig",
            "the same with the gradient averaged on the line between the two embeddings",
            "2 forward passes, and 1 forward and backward pass per step",
            "Sundararajan et al. 2017; Hanna et al. 2024 (edges)",
            "estimate",
            "keeps at every step the choice that is made there",
            options={
                "steps": Option(int, 5, "midpoints at which gradients are taken"),
                "on": Option(str, "inputs", "what is interpolated", ("inputs", "activations")),
                "qk_fix": QK_FIX,
            },
        ),
        Method(
            "relevance",
            "attribution with relevance rules in place of the nonlinear steps' derivatives",
            "2 forward passes and 1 backward",
            "Rezaei Jafari et al. 2025 (relp); Edin et al. 2025 (gim); Achtibat et al. 2024",
            "estimate",
            "keeps the choice of the patched run, and its weights as constants under gate rules",
            options={
                "rules": Option(str, "relp", "relp, gim, attnlrp, or step=rule settings"),
                "qk_fix": QK_FIX,
            },
        ),
        Method(
            "secant",
            "attribution with every nonlinear step's average slope between the two runs",
            "2 forward passes and 1 backward",
            "this project; related to DeepLIFT (Shrikumar et al. 2017)",
            "estimate",
            "carries the whole difference, that of the choice included",
            options={
                "share": Option(float, 1.0, "share of the secant in each slope; the rest: tangent"),
                "exact_receivers": Option(bool, False, "edges: heads and MLPs answer exactly"),
                "qk_fix": QK_FIX,
            },
        ),
        Method(
            "ensemble",
            "mean of secant and attribution; query and key sites by the exact softmax and the "
            "gradient half way to its answer",
            "2 forward passes and 2 backward; query and key sites: 2 more of each per layer",
            "this project; means of scores: Zhang et al. 2025 (BlackboxNLP shared task)",
            "estimate",
            "takes the mean of secant, which carries it, and attribution, which does not",
        ),
        Method(
            "learned",
            "the share of well-working circuits, over all sizes, that hold each edge or node: one "
            "score vector trained for all sizes at once",
            "per step, 1 masked forward and backward pass of a few pairs",
            "arXiv 2609.25518 (budget); Bhaskar et al. 2024 (hard_concrete); Li & Janson 2024 "
            "(uniform_window)",
            "set",
            "lets the masked run choose by what it reads",
            levels=("edge", "node"),
            options={
                "steps": Option(int, 400, "steps at the most; it stops earlier by itself"),
                "batch": Option(int, 8, "prompt pairs per step"),
                "loss": Option(
                    str,
                    "match",
                    "what circuits are asked for: match the full model's metric, or a large "
                    "logit_diff, accuracy, or a small kl to the full model",
                    ("match", "logit_diff", "accuracy", "kl"),
                ),
                "masks": Option(
                    str,
                    "budget",
                    "budget: all sizes at once; hard_concrete: one size (keep); uniform_window: a "
                    "price per edge (penalty)",
                    ("budget", "hard_concrete", "uniform_window"),
                ),
                "learning_rate": Option(float, 0.0, "of Adam; 0: the one that goes with masks"),
                "temperature": Option(float, 0.5, "how soft the masks of a budget are"),
                "budgets": Option(
                    str, "log", "sizes drawn evenly over log k, or over k", ("log", "uniform")
                ),
                "uniform": Option(float, 0.3, "budgets=log: share of steps that draw over k"),
                "coin": Option(float, 0.0, "share of steps that corrupt the best instead"),
                "keep": Option(float, 0.05, "hard_concrete: the share of edges to keep"),
                "penalty": Option(float, 0.001, "uniform_window: what each open edge costs"),
                "candidates": Option(
                    float,
                    0.0,
                    "share trained, the strongest by secant; 0: all of up to 20,000, else a tenth",
                ),
                "rest": Option(
                    str,
                    "secant",
                    "what ranks weak edges, from where held-out pairs show it to be better",
                    ("secant", "learned"),
                ),
                "seed": Option(int, 0, "draws batches, budgets and held-out pairs"),
            },
        ),
    )
}

EFFECTS = tuple(name for name, method in METHODS.items() if method.tier != "set")
"""The methods that say what single parts do."""


def get(name: str) -> Method:
    """A method by name.

    Raises:
        MethodError: no method has that name.
    """
    if name not in METHODS:
        raise MethodError(unknown("method", name, METHODS))
    return METHODS[name]


def check_effect(name: str, what: str) -> None:
    """Refuse a method that says nothing of single parts where that is asked for.

    Raises:
        MethodError: see above.
    """
    if get(name).tier == "set":
        raise MethodError(
            f"'{name}' ranks edges and nodes by the circuits that need them, and does not say what "
            f"one does alone, which is what {what} is about; take one of {', '.join(EFFECTS)}"
        )


def linearisation(name: str, options: Mapping[str, Any]) -> Linearise:
    """The passes of a gradient method, from its checked options.

    Raises:
        MethodError: the method trains a ranking, and linearises nothing.
    """
    from patching import linearise, paths
    from patching.rules import Rules

    check_effect(name, "a linearisation")
    if name == "attribution":
        return linearise.dropping_layers() if options["grad_drop"] else linearise.at_receiver()
    if name == "ig":
        if options["on"] == "inputs":
            return paths.along_inputs(options["steps"])
        return paths.along_activations(options["steps"], options["qk_fix"])
    if name == "relevance":
        return linearise.at_receiver(Rules.parse(options["rules"]))
    if name == "ensemble":
        return linearise.secant_and_tangent()
    return linearise.between_runs(float(options["share"]))
