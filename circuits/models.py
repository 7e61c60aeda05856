"""Models by name: embedded and installed ones, GGUF files, directories, hub ids, in memory."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patching.sources import NAMED, gguf_of, is_gguf
from patching.sources.cache import about, folder
from patching.sources.gguf import check_readable
from tasks.chat import NO_TEMPLATE, TEMPLATE, form_of
from tasks.errors import ModelError, TaskError, unknown

if TYPE_CHECKING:
    from patching.model import Model

OTHERS = "a Hugging Face id such as gpt2, a directory that transformers can open, or a GGUF file"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model that ships inside the package, and so needs no network."""

    name: str
    claim: str
    shape: str
    licence: str
    directory: Callable[[], Path]

    @property
    def megabytes(self) -> float:
        """What its directory holds, in MB."""
        return sum(file.stat().st_size for file in self.directory().iterdir()) / 1e6


_DEVICE: ContextVar[str | None] = ContextVar("device", default=None)


def nano_path() -> Path:
    """The shipped Hugging Face directory: config, weights, tokenizer and model card."""
    return Path(__file__).parent / "nano" / "model"


EMBEDDED = {
    model.name: model
    for model in [
        EmbeddedModel(
            name="nano",
            claim="a small GPT-2 trained on the project's own tasks",
            shape="GPT-2: 4 layers, 4 heads, d_model 128",
            licence="MIT",
            directory=nano_path,
        )
    ]
}


def load_model(source: Any = "nano", **options: Any) -> Model:
    """Open a model to be taken apart.

    ``source`` is the name of an embedded model (``"nano"``) or of one in an installed package
    (``"smollm2-135m"``; see ``circuits models``), a Hugging Face id, a directory, a GGUF file, a
    transformers model in memory, or a model opened before, which is returned as it is. A GGUF file
    is converted once into the user's cache (:mod:`patching.sources.cache`). Options
    (``tokenizer``, ``device``, ``dtype``) go to :meth:`patching.model.Model.open`; inside
    :func:`computing_on` the device is the one given there.

    >>> circuits.load_model("nano")
    Model(...: gpt2, 4 layers, 4 heads, d_model 128)

    Raises:
        ModelError: there is no such model, or it cannot be decomposed into heads and MLPs.
    """
    if isinstance(source, str | Path):
        source = locate(str(source))
    from patching.model import Model

    if not isinstance(source, str | Model) and not hasattr(source, "forward"):
        given = "None" if source is None else f"of the kind {type(source).__name__}"
        raise ModelError(f"the model is {given}; models are {choices()}, or one in memory")

    if isinstance(source, Model) and options:
        raise ModelError(
            f"this model is open already and takes no {', '.join(options)}; open it again from "
            f"where it came, with them"
        )
    if (device := _DEVICE.get()) is not None:
        options.setdefault("device", device)
    return source if isinstance(source, Model) else Model.open(source, **options)


@contextmanager
def computing_on(device: str) -> Iterator[None]:
    """Models that :func:`load_model` opens in the block are put on this device, such as ``cuda``.

    Raises:
        ModelError: torch knows no such device, or does not see one on this machine.
    """
    from patching.loading import check_device

    token = _DEVICE.set(str(check_device(device)))
    try:
        yield
    finally:
        _DEVICE.reset(token)


def locate(name: str) -> str:
    """The directory of an embedded model, or ``name`` as it is; what cannot be opened is refused.

    Nothing heavy is imported, so that a wrong name costs no waiting.
    """
    import tasks

    if name in EMBEDDED:
        return str(EMBEDDED[name].directory())
    if name in NAMED:
        NAMED[name].source()
        return name
    if name and Path(name).is_dir():
        return name
    if name and (is_gguf(name) or Path(name).is_file()):
        _check_file(Path(name))
        return name
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no directory '{name}'; models are {choices()}")
    if name in tasks.names():
        raise ModelError(f"'{name}' is a task, not a model; models are {choices()}")
    known = [*EMBEDDED, *NAMED]
    cut = len(name) > 3 and any(full.startswith(name.lower()) for full in known)
    if not name or cut or get_close_matches(name, known, n=1, cutoff=0.75):
        raise ModelError(f"{unknown('model', name, known)}, or {OTHERS}")
    return name


def _check_file(path: Path) -> None:
    """Refuse a file that is no model, or not the whole of one."""
    if is_gguf(str(path)):
        return check_readable(path)
    if path.suffix == ".safetensors":
        raise ModelError(f"'{path}' is only the weights; give the directory that holds it")
    if path.suffix in PICKLES:
        raise ModelError(
            f"'{path}' is a pickle, which can run code and is never opened; give a directory with "
            f"config.json and model.safetensors, or a GGUF file"
        )
    raise ModelError(f"'{path}' is a file, not a model; models are {choices()}")


def lacks_template(path: str) -> bool:
    """Whether this directory's tokenizer has no chat template; False where that is not known."""
    folder = Path(path)
    if not (folder / "tokenizer_config.json").is_file():
        return False
    if any(folder.glob("chat_template*")) or (folder / "additional_chat_templates").is_dir():
        return False
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_bytes())
    except ValueError:
        return False
    return isinstance(settings, dict) and not settings.get("chat_template")


def check_chat(name: str | None, chat: bool | str) -> None:
    """Refuse a chat template of a model whose directory has none, before it is opened.

    Raises:
        TaskError: there is none, or no such form of chat.
    """
    if form_of(chat) == TEMPLATE and name and lacks_template(locate(name)):
        raise TaskError(NO_TEMPLATE)


def name_of(path: str) -> str:
    """What everything shown calls the model that was opened from there, without the way to it.

    Quantised weights are a model of their own, so their quantisation is part of the name.

    >>> circuits.models.name_of("smollm2-135m")
    'SmolLM2-135M-Instruct, Q4_1'
    """
    for name, embedded in EMBEDDED.items():
        if path == name or Path(path) == embedded.directory():
            return name
    if path in NAMED:
        return NAMED[path].shown
    gguf = gguf_of(path) if Path(path).is_file() else None
    source = about(Path(path) if gguf is None else folder(gguf.sha256))
    if isinstance(title := source.get("title"), str):
        return _with_quantisation(title, str(source.get("quantisation")))
    if gguf is not None:
        return gguf.title
    if hub := re.search(r"models--(.+)/snapshots/\w+/?$", Path(path).as_posix()):
        return hub[1].replace("--", "/")
    return Path(path).resolve().name if Path(path).is_dir() else path


def _with_quantisation(title: str, quantisation: str) -> str:
    """A file's own name often ends in it: SmolLM2-135M-Instruct.Q4_1, gemma-3-270m-q4_k_m."""
    bare = re.sub(rf"[-._ ]{re.escape(quantisation)}$", "", title, flags=re.IGNORECASE)
    return f"{bare}, {quantisation}"


def choices() -> str:
    """One line naming every kind of model that can be opened."""
    return f"{', '.join([*EMBEDDED, *NAMED])}, {OTHERS}"


def fingerprint(name: str) -> str:
    """SHA-256 of the files of a model that is on this disk; empty for an id."""
    where = locate(name)
    if (gguf := gguf_of(where)) is not None:
        return gguf.sha256
    directory = Path(where)
    if not directory.is_dir():
        return ""
    digest = hashlib.sha256()
    for file in sorted(directory.iterdir()):
        if file.suffix in (".json", ".safetensors", ".bin", ".txt") and file.is_file():
            digest.update(f"{file.name}:{file.stat().st_size}:".encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
