"""`python -m pipeline` is the console script."""

from lm_pipeline import main

if __name__ == "__main__":
    main()
