"""The processes that train one model together.

Each holds a copy of the model and some of the lanes. They meet at four points: the average of the gradients,
the sums of scores, what rank 0 decides, and the hidden state for a checkpoint.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from components.errors import UserError

TIMEOUT = timedelta(minutes=5)
"""A process that waits longer for the others takes them for dead."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among the others."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and decides for all."""
        return self.rank == 0

    def average_gradients(self, parameters: Sequence[Tensor], loss: Tensor) -> float:
        """Replace the gradients by their average over the ranks; the average of the losses.

        Everything travels in one flat buffer, which costs one round trip instead of one per parameter.
        """
        if self.world_size == 1:
            return loss.item()
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([*(grad.flatten() for grad in grads), loss.detach().reshape(1)])
        dist.all_reduce(flat)
        flat /= self.world_size
        sizes = [grad.numel() for grad in grads]
        for grad, part in zip(grads, torch.split(flat[:-1], sizes), strict=True):
            grad.copy_(part.view_as(grad))
        return flat[-1].item()

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums of the numbers over the ranks."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.world_size > 1:
            dist.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def from_first(self, value: int) -> int:
        """The number that rank 0 gives."""
        tensor = torch.tensor(value, dtype=torch.int64, device=self.device)
        if self.world_size > 1:
            dist.broadcast(tensor, src=0)
        return int(tensor.item())

    def agree(self, flag: bool) -> bool:
        """The flag of rank 0."""
        return bool(self.from_first(int(flag)))

    def gather(self, part: Tensor) -> Tensor:
        """The parts (n, ...) of all ranks after each other (world_size * n, ...), on every rank."""
        if self.world_size == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.world_size)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)


@contextmanager
def join_ranks(use_gpu: bool) -> Iterator[Ranks]:
    """This process alone, one of torchrun's, or one of a process group that somebody (Ray Train) has set up.

    Raises UserError where a GPU is wanted and there is none.
    """
    if use_gpu and not torch.cuda.is_available():
        raise UserError("runtime.use_gpu is true but PyTorch finds no GPU here; set runtime.use_gpu=false")
    ours = not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if ours:
        if use_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if use_gpu else "gloo", timeout=TIMEOUT)
    try:
        grouped = dist.is_initialized()
        yield Ranks(
            rank=dist.get_rank() if grouped else 0,
            world_size=dist.get_world_size() if grouped else 1,
            device=torch.device("cuda", torch.cuda.current_device()) if use_gpu else torch.device("cpu"),
        )
    finally:
        if ours:
            dist.destroy_process_group()


@contextmanager
def process_group(meeting: Path, rank: int, world_size: int, use_gpu: bool) -> Iterator[None]:
    """A process group whose members find each other through a file that all of them see.

    The usual rendezvous is a server that listens on every interface of the machine; a file listens on none. `meeting`
    must not exist yet. One process alone needs no group.
    """
    if world_size == 1:
        yield
        return
    dist.init_process_group(
        "nccl" if use_gpu else "gloo",
        init_method=meeting.as_uri(),
        rank=rank,
        world_size=world_size,
        timeout=TIMEOUT,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def set_threads(world_size: int) -> None:
    """Let PyTorch compute on OMP_NUM_THREADS threads, or on this process' share of the cores."""
    if "OMP_NUM_THREADS" not in os.environ:  # which PyTorch itself obeys
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world_size))
