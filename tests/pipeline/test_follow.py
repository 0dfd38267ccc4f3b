import json
from pathlib import Path

from pipeline.follow import LineReader


def write(path: Path, steps: list[int], tail: str = "") -> None:
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in steps) + tail, encoding="utf-8")


def steps(reader: LineReader) -> list[int]:
    return [record["step"] for record in reader.poll()]


def test_each_whole_line_comes_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = LineReader(path)
    assert steps(reader) == []
    write(path, [1, 2], tail='{"st')
    assert steps(reader) == [1, 2]
    assert steps(reader) == []
    write(path, [1, 2, 3])
    assert steps(reader) == [3]


def test_a_file_that_was_cut_back_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = LineReader(path)
    write(path, list(range(10)))
    assert steps(reader) == list(range(10))
    write(path, [0, 1, 2, 3])
    assert steps(reader) == [0, 1, 2, 3]
    # Cut and grown beyond the place where it was read to, all between two polls.
    write(path, [0, 1, *range(100, 110)])
    assert steps(reader) == [0, 1, *range(100, 110)]
    write(path, [0, 1, *range(100, 111)])
    assert steps(reader) == [110]
