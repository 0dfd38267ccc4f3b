"""What a training reads: the lanes of this process, the validation documents, how often each token occurs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from components.errors import UserError
from components.shard.lanes import Lanes
from components.shard.tokens import load_documents, read_index
from components.train.job import TrainJob
from components.train.ranks import Ranks
from components.vocab.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True, kw_only=True)
class TrainData:
    """The data of one process."""

    tokenizer: Tokenizer
    lanes: Lanes
    own_lanes: slice
    """Which of all lanes these are."""
    valid: Sequence[npt.NDArray[np.integer]]
    """Documents of the validation split that this process scores."""
    counts_V: npt.NDArray[np.int64]
    """Occurrences of each token in the training split."""


def load_data(job: TrainJob, ranks: Ranks) -> TrainData:
    """Read the tokenizer and the token shards and take the part of this rank.

    Raises UserError where they do not fit each other, the settings or the number of ranks.
    """
    batch_size, workers = job.train.batch_size, ranks.world_size
    if batch_size % workers:
        raise UserError(
            f"train.batch_size={batch_size} cannot be split over {workers} workers; make it a multiple of {workers}"
        )
    index = read_index(job.shard)
    tokenizer = load_tokenizer(job.tokenizer)
    if tokenizer.size != index.vocab_size:
        raise UserError(
            f"{job.tokenizer} has {tokenizer.size} tokens but {job.shard} was encoded with {index.vocab_size}; "
            "run the shard stage again with --force"
        )
    if not index.splits["valid"].tokens:
        raise UserError("the validation split is empty; raise corpus.valid_fraction or extend corpus.valid")
    train, _ = load_documents(job.shard, index, "train")
    valid, offsets = load_documents(job.shard, index, "valid")
    share = batch_size // workers
    own = slice(ranks.rank * share, (ranks.rank + 1) * share)
    return TrainData(
        tokenizer=tokenizer,
        lanes=Lanes(train, batch_size, job.train.bptt, first=own.start, lanes=share),
        own_lanes=own,
        valid=[valid[start:end] for start, end in pairwise(offsets)][ranks.rank :: workers],
        counts_V=np.bincount(train, minlength=index.vocab_size),
    )
