"""The model that a run folder names, opened only where a file's word is enough for it.

A run folder may come from somebody else, and what it names is only a name. So without `--model`
these are opened, and nothing else:

* an embedded model, or one in an installed package: the same for everybody;
* a directory or a GGUF file whose contents are those that the run was made with, by their hash;
* a hub id that is in the Hugging Face cache already: nothing is fetched because a file says so.

So a run of one's own opens as it was made, wherever its folder is moved. No code can come along
in any of them: weights are read from safetensors or GGUF alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from circuits.models import EMBEDDED, fingerprint, load_model
from patching.sources import NAMED, is_gguf
from tasks.errors import ModelError

if TYPE_CHECKING:
    from circuits.results.record import ModelRecord
    from patching.model import Model


def recorded_model(used: ModelRecord, given: str | None = None) -> Model:
    """The model that a run was made with; `given` where the user names it.

    Raises:
        ModelError: the run names another kind of model than those above; or it cannot be opened.
    """
    if given:
        return load_model(given)
    name = used.name
    if name in EMBEDDED or name in NAMED:
        return load_model(name)
    if not name:
        raise ModelError("the run was made with a model in memory; name the model with --model")
    if Path(name).is_dir() or is_gguf(name):
        _check_unchanged(name, used.files)
        return load_model(name)
    return load_model(_in_hub_cache(name))


def _check_unchanged(name: str, files: str) -> None:
    if not Path(name).exists():
        raise ModelError(f"the run names the model '{name}', which is not here; {_say(name)}")
    if not files or fingerprint(name) != files:
        raise ModelError(
            f"the run names the model '{name}', and what is there is not what the run was made "
            f"with; {_say(name)}"
        )


def _in_hub_cache(name: str) -> str:
    """The directory of a hub id in the Hugging Face cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        config = None
    if not isinstance(config, str):
        raise ModelError(
            f"the run names the model '{name}', which is neither here nor in the Hugging Face "
            f"cache, and nothing is fetched because a file says so; {_say(name)}"
        )
    return str(Path(config).parent)


def _say(name: str) -> str:
    return f"name the model yourself, with --model {name} where that is the one"
