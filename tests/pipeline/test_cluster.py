"""Parts over a real local Ray: results in order, each part once, a dead worker's part again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from pipeline.cluster import TASK_RETRIES, Cluster, fair_share, probe
from pipeline.config import RuntimeConfig
from pipeline.store import Attempt, Store


def square(*, number: int, out: Path) -> dict[str, Any]:
    (out / f"{number}.txt").write_text(str(number))
    return {"square": number * number}


def die_at_first(*, number: int, marks: str, out: Path) -> dict[str, Any]:
    """Kills its worker the first time it is called with a number."""
    mark = Path(marks) / str(number)
    if number % 2 and not mark.exists():
        mark.touch()
        (out / "half.txt").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number=number, out=out)


def always_die(*, number: int, out: Path) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def refuse(*, number: int, out: Path) -> dict[str, Any]:
    raise UserError(f"number {number} is refused")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(RuntimeConfig()) as cluster:
        yield cluster


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Attempt]:
    with Store(tmp_path).attempt("clean", "f" * 64, fresh=False) as attempt:
        yield attempt


def run(cluster: Cluster, attempt: Attempt, function: Any, items: list[dict[str, Any]]) -> tuple[Any, list[int]]:
    seen: list[int] = []
    results = cluster.map_parts(attempt, function, items, name="part", keep=True, cpus=1, done=seen.append)
    return results, seen


def test_results_come_in_order_and_a_second_call_adopts_all(cluster: Cluster, attempt: Attempt) -> None:
    items = [{"number": n} for n in range(7)]
    results, seen = run(cluster, attempt, square, items)
    assert results == [{"square": n * n} for n in range(7)]
    assert seen == list(range(8))
    assert sorted(p.name for p in attempt.out.iterdir()) == [f"{n}.txt" for n in range(7)]
    again, seen = run(cluster, attempt, refuse, items)
    assert again == results
    assert seen == [7]


def test_nothing_to_do_starts_nothing(attempt: Attempt) -> None:
    with Cluster(RuntimeConfig(address="127.0.0.1:9")) as unreachable:
        assert run(unreachable, attempt, square, []) == ([], [0])


def test_a_dead_worker_costs_its_part_only(cluster: Cluster, attempt: Attempt, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    results, _ = run(cluster, attempt, die_at_first, [{"number": n, "marks": str(marks)} for n in range(4)])
    assert [r["square"] for r in results] == [0, 1, 4, 9]
    assert sorted(p.name for p in marks.iterdir()) == ["1", "3"]
    assert "half.txt" not in {p.name for p in attempt.out.rglob("*")}


def test_a_part_that_always_dies_ends_in_a_sentence(cluster: Cluster, attempt: Attempt) -> None:
    with pytest.raises(RuntimeError, match=f"died {TASK_RETRIES + 1} times on the same part"):
        run(cluster, attempt, always_die, [{"number": 1}])


def test_what_a_part_raises_is_raised_as_what_it_was(cluster: Cluster, attempt: Attempt) -> None:
    with pytest.raises(UserError, match="number 3 is refused"):
        run(cluster, attempt, refuse, [{"number": 3}])


def test_nothing_of_ray_reaches_stdout(cluster: Cluster, attempt: Attempt, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError):
        run(cluster, attempt, always_die, [{"number": 2}])
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("address", ["nonsense", "foo:bar:99", "http://127.0.0.1:8265", "local"])
def test_an_address_of_no_known_form_is_told(address: str) -> None:
    with pytest.raises(UserError, match="is no address of a Ray cluster; write host:port"):
        probe(RuntimeConfig(address=address))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "no-such-host.invalid:6379"])
def test_an_address_where_nothing_listens_is_told(address: str) -> None:
    with pytest.raises(UserError, match=r"nothing listens at .*runtime\.address or RAY_ADDRESS"):
        probe(RuntimeConfig(address=address))


@pytest.mark.parametrize(
    ("cores", "workers", "share"),
    [([2], 1, 2), ([2], 2, 1), ([3, 3], 3, 1), ([3, 3], 2, 3), ([2, 8], 1, 8), ([0, 4, 4], 4, 2), ([16] * 8, 8, 16)],
)
def test_every_worker_finds_a_node(cores: list[int], workers: int, share: int) -> None:
    assert fair_share(cores, workers) == share


def test_more_workers_than_cores_are_told() -> None:
    with pytest.raises(UserError, match=r"runtime\.workers is 5 and the cluster has 4 cores"):
        fair_share([2, 2, 0], 5)
