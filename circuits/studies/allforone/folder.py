"""An All-for-One search as a run folder: the files of any run, and the search's own.

af1.json             every share measured, with its interval
af1.txt              the same for people
grid.svg             the heat map of the grid, and the curves beside it
means.safetensors    the conditional means, and what they were computed from
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from typing_extensions import override

import circuits
from circuits.clock import Clock, Progress
from circuits.config import Config
from circuits.config_check import check_model, check_task, check_the_chat
from circuits.folder import CIRCUIT, OF_A_SEARCH, PAGE, PICTURE, RUN, SCORES
from circuits.inside import bare_prompts
from circuits.output import written
from circuits.results.record import RECORD, RunRecord, describe_run
from circuits.split import split_options
from circuits.studies.allforone.search import Putting, Settings, prompts, search
from tasks.chat import form_of
from tasks.errors import TaskError, all_faults

if TYPE_CHECKING:
    from circuits.studies.allforone.result import AllForOne
    from circuits.studies.allforone.samples import Conditional
    from graphs.inside import InsidePrompt
    from patching.sweep import Sweep
    from tasks import PromptPairs

RESULT, REPORT, GRID, MEANS = OF_A_SEARCH


@dataclass(frozen=True)
class SearchConfig(Config):
    """The choices of one search; `options` are the task's own."""

    method: str = "af1"
    settings: Settings = field(default_factory=Settings)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file; what only a discovery chooses is left out."""
        plain = {
            "task": self.task,
            "model": self.model,
            "method": self.method,
            "direction": self.direction,
            "bos": self.bos,
            "chat": self.chat,
        }
        return plain | asdict(self.settings) | {"options": dict(self.options)}

    @override
    def settled(self, model: str | None = None) -> Self:
        """With the split that goes with the model among the task's options."""
        model = self.model or model
        if self.task is None or self.from_file or model is None:
            return self
        return replace(self, options=split_options(self.task, self.options, model))

    def check(self) -> None:
        """Refuse what cannot work, without loading a model.

        Raises:
            CircuitsError: the task, the model or an option of the task.
        """
        import tasks

        check_task(self)
        check_model(self)
        check_the_chat(self)
        if not self.from_file:
            tasks.get(self.task or "").settings(**self.options)
        elif self.options:
            raise TaskError(f"a file of prompt pairs takes no options, given {list(self.options)}")


def read_options(settings: list[str]) -> Mapping[str, str]:
    """Options of a task from `NAME=VALUE` texts; the task converts and checks the values.

    Raises:
        TaskError: listing texts that are no `NAME=VALUE`.
    """
    parts = [text.partition("=") for text in settings]
    wrong = [f"'{name}' is not NAME=VALUE" for name, equals, _ in parts if not equals]
    if wrong:
        raise TaskError(all_faults("options of the task:", wrong))
    return {name: value for name, _, value in parts}


def af1(
    model: Any = "nano",
    task: str | Path | PromptPairs = "mental_math",
    *,
    n: int = 256,
    seed: int = 0,
    samples: int = 256,
    tolerance: float = 0.05,
    alternatives: bool = True,
    prune: bool = True,
    batch_size: int = 64,
    conditional: Conditional | None = None,
    bos: bool | None = None,
    chat: bool | str = "",
    progress: Progress | None = None,
    **options: Any,
) -> AllForOne:
    """The All-for-One subgraph with which `model` answers `task`, and the search that found it.

    `task` is a task's name (`options` are the task's), a file of prompt pairs, or `PromptPairs`.
    Prompts have to be of one length. `conditional(position, token, n, seed)` draws prompts with
    that token at that position and the rest independent of it; by default the task's own sampler,
    or, for pairs, every column drawn by itself. `bos` and `chat` say how texts are put to the
    model: see :meth:`tasks.base.Task.pairs`. Shares are of the prompts that the full model answers
    right, with 95 % Wilson intervals; `tolerance` is how much of them a subgraph may lose and still
    count as good.

    >>> circuits.af1(model, "mental_math", n=16, samples=16, alternatives=False, prune=False)
    AllForOne(mental_math: Stages(wait=..., transfer=...), faithfulness ...)

    Raises:
        CircuitsError: the task, the model or a setting does not work, prompts differ in length, or
            the model answers no prompt right.
    """
    from circuits.models import load_model, name_of
    from patching.sweep import Sweep

    settings = Settings(n, seed, samples, tolerance, alternatives, prune, batch_size)
    opened = load_model(model)
    name = name_of(opened.path)
    if isinstance(task, str) and not task.endswith((".json", ".jsonl")):
        options = split_options(task, options, opened.path)
    how = Putting(bos, form_of(chat))
    pairs, own = prompts(task, opened, settings, options, how)
    sweep = Sweep(batch_size, progress)
    result = search(opened, pairs, conditional or own, settings, sweep, name)
    return replace(result, options=options, bos=how.bos, chat=how.chat)


def run(config: SearchConfig, folder: Path, progress: Progress | None = None) -> AllForOne:
    """Search, and write everything found into the run folder `folder`.

    Raises:
        CircuitsError: as for :func:`circuits.af1`; then nothing is written.
    """
    from patching.journal import kept
    from patching.sweep import Sweep

    config.check()
    with kept(folder, circuits.__version__, config.digest()) as journal:
        return _run(config, folder, Sweep(config.settings.batch_size, progress, journal))


def _run(config: SearchConfig, folder: Path, options: Sweep) -> AllForOne:
    from circuits.models import load_model, name_of

    clock = Clock(options.progress, options.seconds)
    with clock("opening the model"):
        model = load_model(config.model)
    with clock("making the prompts"):
        how = Putting(config.bos, config.chat)
        pairs, conditional = prompts(config.task or "", model, config.settings, config.options, how)
    with clock("searching"):
        name = config.model_label or name_of(model.path)
        result = search(model, pairs, conditional, config.settings, options, name)
    result = replace(result, options=config.options, bos=config.bos, chat=config.chat)
    assert result.graph is not None
    assert result.evaluation is not None
    record = describe_run(config, model, pairs, result.graph, result.evaluation, clock.seconds)
    write(folder, record, result, bare_prompts(model, result.pairs or pairs))
    return result


def write(
    folder: Path, record: RunRecord, result: AllForOne, shown: Sequence[InsidePrompt] = ()
) -> None:
    """Write a finished search; either all of it is there afterwards, or nothing has changed.

    The page shows the prompts `shown` beside the circuit, whose parts all have a position.
    """
    from circuits.results.pictures import save
    from circuits.studies.allforone.plot import draw
    from graphs.inside import Inside
    from graphs.page import save_page

    assert result.graph is not None
    assert result.scores is not None
    assert result.means is not None
    with written(folder, RUN.check) as partial:
        result.scores.save(partial / SCORES)
        result.graph.save(partial / CIRCUIT)
        result.graph.draw(partial / PICTURE)
        save_page(result.graph, partial / PAGE, inside=Inside(prompts=tuple(shown)))
        result.means.save(partial / MEANS)
        save(draw(result), partial / GRID)
        text = json.dumps(result.to_json(), indent=2, ensure_ascii=False)
        (partial / RESULT).write_text(text + "\n", encoding="utf-8")
        (partial / REPORT).write_text(f"{result}\n", encoding="utf-8")
        (partial / RECORD).write_text(record.to_json(), encoding="utf-8")
