"""Texts that people read, and words that make them hard to read."""

import ast
import io
import json
import re
import tokenize

PACKAGES = ("circuits", "graphs", "patching", "tasks")

STIFF = {
    r"parted(?! import)\b(?!\()": "separated",
    r"(?<!much )less (?:those|what|the|its|their|all|one)\b": "without, or minus",
    r"(?:hold|holds|held|holding)\b[\w' ,`-]{0,40}?\bagainst\b": "compare with",
    r"exchanged?\b": "replaced, swapped",
    r"whoever\b": "who, or if you",
    r"in the place of\b": "instead of",
    r"alike\b(?!`| =|\.[a-z]|,| share|$)": "the same, equal",
    r"gone on with\b": "continued",
    r"put behind\b": "added to",
    r"pass(?:es|ed) over\b(?! rows)": "ignored, skipped",
    r"(?:told|tells?|telling) (?:\w+ ){0,3}apart\b": "distinguish",
    r"at the least\b": "at least",
    r"lest\b": "so that ... not",
    r"(?:where|there|here)(?:upon|of|fore|to|with)\b(?<!therefore)": "plain words",
    r"(?:amongst|whilst|albeit|betwixt|upon|ere)\b": "among, while, although, on, before",
    r"of its own accord\b": "by itself",
    r"is no (?:\w+ )?(?:number|whole number)\b": "is not a number",
    r"so many (?:are|resamples|candidates)\b": "as many as ...",
    r"the like\b": "similar",
    r"kin\b": "related models",
    r"hinder(?:s|ed)?\b": "prevent",
    r"stand(?:s)? apart\b": "differ",
}
FOUND = {word: re.compile(rf"(?<![\w`])(?:{word})", re.IGNORECASE) for word in STIFF}


def pages(root):
    """Every page of Markdown that is not made by a program, with its name."""
    tops = (root / name for name in ("README.md", "CONTRIBUTING.md", "RELEASING.md"))
    tops = (*tops, root / "STABILITY.md", root / "SECURITY.md")
    made = {"_build", "generated", "notebooks"}
    docs = (p for p in (root / "docs").rglob("*.md") if not made & set(p.parts))
    for path in (*tops, *(root / "circuits").glob("*.md"), *docs):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
        yield path, re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def strings(path):
    """Every string of a Python file, docstrings and the fixed parts of f-strings included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def comments(path):
    """Every comment of a Python file."""
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def texts(root):
    """(where, text) of everything that people read."""
    for path, text in pages(root):
        yield str(path.relative_to(root)), text
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            for line, text in (*strings(path), *comments(path)):
                yield f"{path.relative_to(root)}:{line}", text
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            yield str(path.relative_to(root)), "".join(cell["source"])


def stiff(text):
    """Every stiff word of a text, with what to write instead."""
    joined = " ".join(text.split())
    for word, pattern in FOUND.items():
        for found in pattern.finditer(joined):
            near = joined[max(found.start() - 30, 0) : found.end() + 30]
            yield found[0], STIFF[word], near
