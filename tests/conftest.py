"""Settings of the whole test set."""

import os

# One thread per process: several processes share the cores, and torch's threads wait for each other busily.
# Set before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

settings.register_profile("pipeline", deadline=None)
settings.load_profile("pipeline")
