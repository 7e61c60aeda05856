"""Edit plans: a TOML or JSON file that names a model by its hash, a basis, and edits in order.

    kind = "circuits edit plan"
    schema_version = "1.0"
    model = "9f2c..."                 # circuits.load_model(...).hash
    basis = "folded_centred"          # patching.directions
    [[edits]]
    kind = "add"
    site = "m3.n17"
    direction = { tokens = { " A" = -1.0 } }
    strength = 0.5

A plan is refused as a whole, with all its faults, before anything is changed. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, field_validator

from circuits.edits.check import edit_faults, is_weight_edit
from circuits.edits.edit import Edit, Part
from circuits.output import make_ready, vacant
from graphs.files import read_bytes, read_json, read_toml
from tasks.atomic import write_atomically
from tasks.errors import (
    CircuitsError,
    EditError,
    FormatError,
    RunError,
    all_faults,
    counted,
    unknown,
)
from tasks.limits import MAX_PLAN, MAX_TOML

if TYPE_CHECKING:
    import pandas as pd

    from circuits.edits.live import EditedModel
    from patching.model import Model

SHOWN = 160
FEWER_EDITS = "give fewer edits, or shorter vectors"


class EditPlan(Part):
    """Edits with the model they are for.

    ``uses_answer`` marks plans made with the right answers of the prompts they are tested on:
    good for a diagnosis, no mitigation.

    >>> circuits.EditPlan(model=model.hash, basis="raw", edits=(circuits.remove("a3.h0"),))
    EditPlan(1 edit of ..., basis raw)
    """

    kind: Literal["circuits edit plan"] = "circuits edit plan"
    schema_version: str = Field("1.0", pattern=r"^1\.\d+$")
    model: str = Field(description="SHA-256 of the model, Model.hash")
    model_name: str = ""
    basis: str = Field(description="raw, folded or folded_centred: what tokens mean as directions")
    edits: tuple[Edit, ...]
    uses_answer: bool = False
    note: str = ""

    @field_validator("edits", mode="before")
    @classmethod
    def _several(cls, edits: Any) -> Any:
        """A single edit stands for itself."""
        return (edits,) if isinstance(edits, Part) else edits

    @property
    def weights_only(self) -> bool:
        """Whether all edits change weights, so that the plan can be saved with the model."""
        return all(is_weight_edit(edit) for edit in self.edits)

    def own_faults(self) -> list[str]:
        """Everything that keeps the plan from being carried out on any model, one line each."""
        from patching.directions import BASES

        faults = [] if self.basis in BASES else [unknown("basis", self.basis, BASES)]
        if not self.edits:
            faults.append("the plan has no edits")
        return faults + edit_faults(self.edits)

    def faults(self, model: Model, out: Path | None = None) -> list[str]:
        """Everything that keeps the plan from being carried out, one line each."""
        from patching.directions import basis_fault

        listed = []
        if self.model != model.hash:
            listed.append(
                f"the plan is for model {self.model[:12]}..., given {model.hash[:12]}... "
                f"({model.path})"
            )
        if fault := basis_fault(model, self.basis):
            listed.append(fault)
        if not self.edits:
            listed.append("the plan has no edits")
        size = model.vocabulary_size
        listed += edit_faults(self.edits, model.anatomy, model.tokenizer, size)
        if out is not None:
            listed += self._saving_faults(out)
        return listed

    def _saving_faults(self, out: Path) -> Iterator[str]:
        if not vacant(out):
            yield f"{out} exists already; choose another --out"
        else:
            try:
                make_ready(out)
            except RunError as fault:
                yield str(fault)
        for i, edit in enumerate(self.edits):
            try:
                fits = is_weight_edit(edit)
            except CircuitsError:
                continue
            if not fits:
                yield (
                    f"edit {i} ({edit.kind}) changes activations, which no saved model can hold; "
                    f"only edits of weights can be saved"
                )

    def check(self, model: Model | None = None, out: Path | None = None) -> None:
        """Refuse a plan that cannot be carried out; without a model, on any model at all.

        Raises:
            EditError: listing all faults; nothing has been changed.
        """
        if faults := self.own_faults() if model is None else self.faults(model, out):
            raise EditError(all_faults("this plan cannot be carried out:", faults))

    @contextmanager
    def applied(self, model: Model) -> Iterator[EditedModel]:
        """The plan in force for the length of a `with` block (:func:`circuits.edits.live.editing`).

        Raises:
            EditError: as for :meth:`check`.
        """
        from circuits.edits.live import editing

        self.check(model)
        with editing(model, self.edits, self.basis) as edited:
            yield edited

    def to_frame(self) -> pd.DataFrame:
        """One row per edit: its kind, where it acts, and its other fields as text."""
        import pandas as pd

        return pd.DataFrame([_row(edit) for edit in self.edits], columns=["kind", "site", "how"])

    def __repr__(self) -> str:
        name = self.model_name or self.model[:12]
        return f"EditPlan({counted(len(self.edits), 'edit')} of {name}, basis {self.basis})"

    def _repr_html_(self) -> str:
        from circuits.results.tables import Table

        return Table.of(self.to_frame(), f"{self!r} {self.note}".rstrip()).html()

    def to_json(self) -> str:
        """The text of the plan's file."""
        return self.model_dump_json(indent=1) + "\n"

    def to_toml(self) -> str:
        """The text of the plan's file as TOML, which is pleasanter to read and to change by hand.

        Fields that are not set are left out: TOML has no null.
        """
        import tomli_w

        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def save(self, path: str | Path) -> None:
        """Write the plan as .json or .toml.

        Raises:
            FormatError: another ending, or a folder that cannot be written.
        """
        writers = {".json": self.to_json, ".toml": self.to_toml}
        write = writers.get(Path(path).suffix)
        if write is None:
            raise FormatError(f"plans are written as .json or .toml, not as '{path}'")
        write_atomically(path, write().encode())


def _row(edit: Edit) -> dict[str, str]:
    values = edit.model_dump(exclude={"kind", "site"}, exclude_none=True)
    how = ", ".join(f"{name} {value}" for name, value in values.items())
    shown = how if len(how) <= SHOWN else f"{how[:SHOWN]}..."
    return {"kind": edit.kind, "site": getattr(edit, "site", ""), "how": shown}


def plan_for(model: Model, edits: tuple[Edit, ...], basis: str | None = None) -> EditPlan:
    """A plan of some edits for this model, in its folded basis unless another is named."""
    from circuits.models import name_of
    from patching.directions import default_basis

    return EditPlan(
        model=model.hash,
        model_name=name_of(model.path),
        basis=basis or default_basis(model),
        edits=edits,
    )


def read_plan(path: str | Path) -> EditPlan:
    """Read a plan from a .toml or .json file.

    >>> edits = (circuits.scale("a3.h0", 0.5),)
    >>> circuits.EditPlan(model=model.hash, basis="raw", edits=edits).save("plan.toml")
    >>> circuits.read_plan("plan.toml")
    EditPlan(1 edit of ..., basis raw)

    Raises:
        FormatError: it cannot be read, is of another kind or a newer major version, or has fields
            that no edit has; all such faults are listed.
    """
    values = _values(Path(path))
    version = str(values.get("schema_version", "1.0")) if isinstance(values, dict) else "1.0"
    if version.split(".")[0] != "1":
        raise FormatError(f"{path} has schema version {version}; this version of circuits reads 1")
    try:
        return EditPlan.model_validate(values)
    except ValidationError as error:
        faults = [f"{_where(fault['loc'])}: {_told(fault)}" for fault in error.errors()]
        raise FormatError(all_faults(f"{path} is no edit plan of version 1:", faults)) from None


def plan_schema() -> dict[str, Any]:
    """The JSON Schema of a plan's file, for editors and other programs.

    >>> circuits.plan_schema()["title"]
    'EditPlan'
    """
    return EditPlan.model_json_schema()


def _values(path: Path) -> Any:
    if path.suffix == ".toml":
        return read_toml(read_bytes(path, MAX_TOML, "save it as .json"), str(path))
    if path.suffix == ".json":
        return read_json(read_bytes(path, MAX_PLAN, FEWER_EDITS), str(path), allow_nan=True)
    raise FormatError(f"plans are read from .toml or .json, not from '{path}'")


def _told(fault: Any) -> str:
    """A fault of pydantic's in the project's words, where they say more."""
    if fault["type"] == "union_tag_invalid":
        tags = fault["ctx"]["expected_tags"].replace("'", "").split(", ")
        return unknown("kind of edit", str(fault["ctx"]["tag"]), tags)
    words = {"missing": "is missing", "extra_forbidden": "there is no such field"}
    return words.get(fault["type"], fault["msg"])


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "file"
