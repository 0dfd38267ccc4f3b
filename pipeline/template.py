"""The commented config that `pipeline init` writes: every setting with default and meaning, from the code itself."""

import ast
import inspect
import json
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from pipeline.config import Config

HEAD = """\
# Settings of lm-pipeline. Every line is the default; keep what you change and delete the rest.
# Use it:    pipeline run --config {file}
# Try out:   pipeline plan --config {file} --set train.epochs=8
"""


def config_template(inputs: Sequence[str], file: str = "pipeline.yaml") -> str:
    """YAML with a comment for every key; `inputs` become corpus.paths."""
    blocks = [HEAD.format(file=file)]
    for section in fields(Config):
        assert isinstance(section.type, type)
        blocks.append(_section(section.name, section.type, inputs))
    return "\n".join(blocks)


def _section(name: str, cls: type, inputs: Sequence[str]) -> str:
    assert is_dataclass(cls)
    notes = _field_docs(cls)
    lines = [f"# {inspect.cleandoc(cls.__doc__ or '').splitlines()[0]}", f"{name}:"]
    for field in fields(cls):
        value = list(inputs or ["my_texts/"]) if (name, field.name) == ("corpus", "paths") else _default(field)
        lines += textwrap.wrap(notes[field.name], 110, initial_indent="  # ", subsequent_indent="  # ")
        lines.append(f"  {field.name}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _default(field: Field[Any]) -> object:
    assert field.default is not MISSING
    return field.default


def _field_docs(cls: type) -> dict[str, str]:
    """The string under each field of a dataclass: its documentation, which Python itself does not keep."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            docs[field.target.id] = " ".join(str(text.value.value).split())  # type: ignore[attr-defined]
    return docs
