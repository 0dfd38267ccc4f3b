"""The token stream of a split, cut for truncated back-propagation through time.

A stream of 18 tokens, `batch_size` 3 and `bptt` 4. The targets are the stream itself, cut in three lanes of
equal length; the inputs are the same stream one token earlier, with `<eos>` before the first:

    stream     <eos> │ a b c d e f │ g h i j k l │ m n o p q r

                        segment 0         segment 1 (what is left)
    lane 0  inputs   <eos> a  b  c       d  e
            targets    a   b  c  d       e  f
    lane 1  inputs     f   g  h  i       j  k
            targets    g   h  i  j       k  l
    lane 2  inputs     l   m  n  o       p  q
            targets    m   n  o  p       q  r

The state of a lane after a segment is its state before the next one. Each token is a target once per epoch,
but for a rest of fewer than `batch_size` tokens at the end of the stream. Workers share a batch by
lanes: of two workers one takes lanes 0 and 1, the other lane 2; together they see what one alone would see.
"""

import numpy as np
import numpy.typing as npt

from components.errors import UserError
from components.vocab.tokenizer import EOS

Segment = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def check_lanes(tokens: int, batch_size: int) -> None:
    """Raise UserError where a stream has fewer than two tokens for each lane."""
    if tokens < 2 * batch_size:
        fix = f"set train.batch_size to {tokens // 2} or less" if tokens > 1 else "give it more text"
        raise UserError(f"a split of {tokens} tokens is too small for {batch_size} lanes: {fix}")


class Lanes:
    """The lanes `first` to `first + lanes` of a stream; what comes at a step depends on nothing but the step.

    `tokens` is the whole stream, a 1-D array of any integer type, of which nothing is copied. `batch_size`
    counts the lanes of all workers together; `lanes=None` takes all from `first` on.

    Raises UserError where the stream has fewer than two tokens for each lane.
    """

    def __init__(
        self,
        tokens: npt.NDArray[np.integer],
        batch_size: int,
        bptt: int,
        *,
        first: int = 0,
        lanes: int | None = None,
    ) -> None:
        assert tokens.ndim == 1
        assert batch_size >= 1 and bptt >= 1
        last = batch_size if lanes is None else first + lanes
        assert 0 <= first < last <= batch_size, f"no lanes {first} to {last} in a batch of {batch_size}"
        check_lanes(len(tokens), batch_size)
        self.length = len(tokens) // batch_size
        self.bptt = bptt
        self.steps = -(-self.length // bptt)
        """Segments of an epoch; the last one may be shorter than `bptt`."""
        lanes_BL = tokens[: batch_size * self.length].reshape(batch_size, self.length)
        self._lanes_BL = lanes_BL[first:last]
        before_B = np.concatenate([np.array([EOS], tokens.dtype), lanes_BL[:-1, -1]])
        self._before_B = before_B[first:last]

    def segment(self, step: int) -> Segment:
        """Inputs and targets, int64 (lanes, tokens), of a step of the epoch, counted from 0."""
        assert 0 <= step < self.steps, f"step {step} of {self.steps}"
        start = step * self.bptt
        targets_BT = self._lanes_BL[:, start : start + self.bptt].astype(np.int64)
        inputs_BT = np.empty_like(targets_BT)
        inputs_BT[:, 0] = self._lanes_BL[:, start - 1] if start else self._before_B
        inputs_BT[:, 1:] = targets_BT[:, :-1]
        return inputs_BT, targets_BT
