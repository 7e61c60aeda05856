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

    ``tier`` says how far to trust it: ``exact`` is the definition; ``estimate`` is a first-order
    estimate whose agreement with the definition depends on model and task; ``choice`` takes one of
    them, and the result says which. ``router`` says what it
    does at a token which the two runs send to different experts.
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
    )
}


def get(name: str) -> Method:
    """A method by name.

    Raises:
        MethodError: no method has that name.
    """
    if name not in METHODS:
        raise MethodError(unknown("method", name, METHODS))
    return METHODS[name]


def linearisation(name: str, options: Mapping[str, Any]) -> Linearise:
    """The passes of a gradient method, from its checked options."""
    from patching import linearise, paths
    from patching.rules import Rules

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
