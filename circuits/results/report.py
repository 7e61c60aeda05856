"""A result in words, once: printed in a terminal, written as Markdown, shown in a notebook."""

from __future__ import annotations

import base64
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from circuits.results.tables import Rows, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """What draws a figure where there is a place for it, and what is read out elsewhere."""

    draw: Callable[[], Figure]
    alt: str

    def html(self) -> str:
        """An image of its own, so that its parts cannot mix with another picture's."""
        from circuits.results.pictures import rendered

        source = f"data:image/svg+xml;base64,{base64.b64encode(rendered(self.draw())).decode()}"
        return f'<img alt="{escape(self.alt)}" style="{STYLE}" src="{source}">'


STYLE = "max-width:100%;background:white"
Block = str | Rows | Table | Picture


@dataclass(frozen=True)
class Report:
    """Paragraphs, tables and pictures in reading order; paragraphs may have Markdown's marks."""

    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, *blocks: Block) -> Report:
        """A report of some blocks; empty paragraphs are left out."""
        return cls(tuple(block for block in blocks if block != ""))

    def text(self) -> str:
        """Everything but the pictures, in lines."""
        words = (block for block in self.blocks if not isinstance(block, Picture))
        return "\n\n".join(block if isinstance(block, str) else block.text() for block in words)

    def markdown(self) -> str:
        """Everything but the pictures, as a Markdown page."""
        words = (block for block in self.blocks if not isinstance(block, Picture))
        parts = (block if isinstance(block, str) else block.markdown() for block in words)
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """Everything, escaped, with nothing to load."""
        return "".join(
            f"<p>{escape(block)}</p>" if isinstance(block, str) else block.html()
            for block in self.blocks
        )


class Reported:
    """A result that says itself where it is printed, and shows itself in a notebook."""

    __slots__ = ()

    @abstractmethod
    def report(self) -> Report:
        """What there is to say of it on one screen."""

    def __str__(self) -> str:
        return self.report().text()

    def _repr_html_(self) -> str:
        return self.report().html()
