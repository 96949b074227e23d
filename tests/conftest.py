"""What all tests share."""

import os

from hypothesis import settings

# The same examples on every run: a failure is a change's, not a day's. `make explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
