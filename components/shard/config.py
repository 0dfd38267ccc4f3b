"""Settings of the shard stage."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How token ids lie in Parquet."""

    row_group_documents: int = 4096
    """Documents in a row group: what a reader holds in memory at once."""

    def __post_init__(self) -> None:
        """Refuse empty row groups."""
        if self.row_group_documents < 1:
            raise ValueError("row_group_documents must be at least 1")
