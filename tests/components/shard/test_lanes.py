"""Lanes against the slow, obvious way to cut a stream."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import UserError
from components.shard.lanes import Lanes
from components.vocab.tokenizer import EOS

SHAPES = st.tuples(st.integers(2, 200), st.integers(1, 9), st.integers(1, 12)).filter(lambda s: s[0] >= 2 * s[1])


def stream(length: int) -> np.ndarray:
    """Tokens that are all different, so that each can be told from where it came."""
    return np.arange(100, 100 + length, dtype=np.uint16)


def test_the_drawing() -> None:
    letters = np.frombuffer(b"abcdefghijklmnopqr", dtype=np.uint8)
    lanes = Lanes(letters, 3, 4)
    assert (lanes.steps, lanes.length) == (2, 6)
    first, second = ([[chr(t) for t in lane] for lane in part] for part in lanes.segment(1)), lanes.segment(0)
    assert [["".join(lane) for lane in part] for part in first] == [["de", "jk", "pq"], ["ef", "kl", "qr"]]
    assert second[0].tolist() == [[EOS, *b"abc"], [*b"fghi"], [*b"lmno"]]
    assert second[1].tolist() == [[*b"abcd"], [*b"ghij"], [*b"mnop"]]


@settings(deadline=None)
@given(SHAPES)
def test_segments_equal_the_obvious_way(shape: tuple[int, int, int]) -> None:
    length, batch_size, bptt = shape
    tokens = stream(length)
    lanes = Lanes(tokens, batch_size, bptt)
    per_lane = length // batch_size
    past = [EOS, *tokens.tolist()]
    for step in range(lanes.steps):
        inputs_BT, targets_BT = lanes.segment(step)
        assert inputs_BT.dtype == targets_BT.dtype == np.int64
        for lane in range(batch_size):
            places = range(lane * per_lane + step * bptt, lane * per_lane + min((step + 1) * bptt, per_lane))
            assert targets_BT[lane].tolist() == [int(tokens[place]) for place in places]
            assert inputs_BT[lane].tolist() == [past[place] for place in places]


@settings(deadline=None)
@given(SHAPES)
def test_every_token_is_a_target_once_but_for_the_rest(shape: tuple[int, int, int]) -> None:
    length, batch_size, bptt = shape
    tokens = stream(length)
    lanes = Lanes(tokens, batch_size, bptt)
    targets = np.concatenate([lanes.segment(step)[1].ravel() for step in range(lanes.steps)])
    left_out = length % batch_size
    assert sorted(targets.tolist()) == tokens[: length - left_out].tolist()


@settings(deadline=None)
@given(SHAPES, st.data())
def test_workers_together_see_what_one_sees(shape: tuple[int, int, int], data: st.DataObject) -> None:
    length, batch_size, bptt = shape
    cuts = sorted(data.draw(st.sets(st.integers(1, batch_size - 1))) if batch_size > 1 else set())
    bounds = list(zip([0, *cuts], [*cuts, batch_size], strict=True))
    alone = Lanes(stream(length), batch_size, bptt)
    group = [Lanes(stream(length), batch_size, bptt, first=a, lanes=b - a) for a, b in bounds]
    for step in range(alone.steps):
        for whole, parts in zip(alone.segment(step), zip(*(w.segment(step) for w in group), strict=True), strict=True):
            assert np.array_equal(whole, np.concatenate(parts))


def test_a_segment_depends_on_nothing_but_its_step() -> None:
    lanes = Lanes(stream(100), 4, 6)
    late = lanes.segment(3)
    for step in (0, 2, 1, 4):
        inputs_BT, targets_BT = lanes.segment(step)
        inputs_BT[:] = targets_BT[:] = 0  # what a caller does with a segment stays with the caller
    assert all(np.array_equal(a, b) for a, b in zip(late, lanes.segment(3), strict=True))


@pytest.mark.parametrize(("length", "fix"), [(0, "more text"), (1, "more text"), (7, "train.batch_size to 3 or less")])
def test_a_split_too_small_is_told_with_the_fix(length: int, fix: str) -> None:
    with pytest.raises(UserError, match=f"{length} tokens.*{fix}"):
        Lanes(stream(length), 4, 6)


def test_the_fix_it_names_works() -> None:
    assert Lanes(stream(7), 3, 6).steps == 1


@pytest.mark.parametrize("step", [-1, 5])
def test_there_are_no_steps_outside_the_epoch(step: int) -> None:
    with pytest.raises(AssertionError):
        Lanes(stream(100), 4, 5).segment(step)
