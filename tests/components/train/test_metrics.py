"""The metrics file while it is written."""

from pathlib import Path

from components.train.metrics import MetricsLog, read_metrics


def test_a_torn_line_is_not_read_and_a_cut_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    log = MetricsLog(path)
    log.write(step=1)
    size = log.sync()
    log.write(step=2)
    with path.open("ab") as file:
        file.write(b'{"step": 3, "lo')
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]
    log.cut(size)
    log.write(step=2, again=True)
    assert read_metrics(path) == [{"step": 1}, {"step": 2, "again": True}]
    log.cut(10_000)  # a file that lost lines is not filled with zeros
    assert len(read_metrics(path)) == 2
