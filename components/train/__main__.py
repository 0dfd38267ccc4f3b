"""`python -m components.train job.json`, alone or under torchrun."""

import argparse
import sys
from pathlib import Path

from components.errors import UserError
from components.train.loop import TrainingError, train_job


def main() -> None:
    """Train; exit 2 for a mistake in the job or its inputs, 1 for a training that failed."""
    parser = argparse.ArgumentParser(prog="python -m components.train", description="Train as a job file says.")
    parser.add_argument("job", type=Path, help="job.json as the train stage writes it")
    try:
        train_job(parser.parse_args().job)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1 if isinstance(error, TrainingError) else 2) from None


if __name__ == "__main__":
    main()
