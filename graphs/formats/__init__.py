"""The files a circuit can be written to, and those it can be read from."""

from graphs.formats.registry import FORMATS, Format, find_format, load, register, render, save

__all__ = ["FORMATS", "Format", "find_format", "load", "register", "render", "save"]
