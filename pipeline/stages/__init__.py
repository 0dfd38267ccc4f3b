"""The stages, and the only list of their order."""

from pipeline.stage import Stage
from pipeline.stages.clean import CLEAN
from pipeline.stages.evaluate import EVALUATE
from pipeline.stages.register import REGISTER
from pipeline.stages.shard import SHARD
from pipeline.stages.train import TRAIN
from pipeline.stages.vocab import VOCAB

STAGES: tuple[Stage, ...] = (CLEAN, VOCAB, SHARD, TRAIN, EVALUATE, REGISTER)
