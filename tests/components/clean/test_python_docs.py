from pathlib import Path

import pytest

from components.clean.config import CorpusConfig
from components.clean.read import BadRecord, Record, Slice, read_slice
from components.clean.sources import find_sources


def read(path: Path, content: bytes) -> list[Record | BadRecord]:
    path.write_bytes(content)
    return list(read_slice(Slice(source=0, name=path.name, path=str(path), split=None), CorpusConfig()))


def test_docstrings_in_the_order_of_the_source(tmp_path):
    source = (
        '"""Module."""\nclass A:\n    """Class.\n\n    Indented.\n    """\n    def f(self):\n        "Method \\d."\n'
    )
    source += "async def g():\n    'Last.'\ndef h():\n    return 'not one'\n"
    records = read(tmp_path / "a.py", source.encode())
    assert records == [
        Record(0, "Module.", 7),
        Record(1, "Class.\n\nIndented.", 17),
        Record(2, "Method \\d.", 10),
        Record(3, "Last.", 5),
    ]


@pytest.mark.parametrize("content", [b"def (:\n", b"a = '\x00'\n", b"\xff\xff\n", b"# coding: nonsense\n"])
def test_python_that_does_not_parse_is_quarantined(tmp_path, content):
    assert [bad.reason for bad in read(tmp_path / "a.py", content)] == ["not valid Python"]


def test_topics_are_documents():
    found = find_sources(CorpusConfig(source="python-docs"))
    topics = next(s for s in found if s.name.endswith("pydoc_data/topics.py"))
    whole = Slice(source=0, name=topics.name, path=topics.path, split=None)
    documents = [record.text for record in read_slice(whole, CorpusConfig())]
    assert len(documents) > 50
    assert any('The "assert" statement' in d for d in documents)
