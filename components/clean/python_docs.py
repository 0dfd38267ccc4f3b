"""The documentation in Python source files: parsed, never imported. Malformed source raises what `ast.parse` does."""

import ast
import inspect
import warnings


def docstrings(source: bytes) -> list[str]:
    """The docstrings of the module, its classes and functions in the order of the source, indentation removed."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(_parse(source)) if isinstance(node, documented)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    found = [ast.get_docstring(node, clean=False) for node in nodes]
    return [inspect.cleandoc(text) for text in found if text is not None]


def topics(source: bytes) -> list[str]:
    """The texts of `pydoc_data/topics.py`, which is one dictionary: the language reference behind `help()`."""
    tables = [node for node in ast.walk(_parse(source)) if isinstance(node, ast.Dict)]
    return [ast.literal_eval(value) for table in tables for value in table.values]


def _parse(source: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        return ast.parse(source)
