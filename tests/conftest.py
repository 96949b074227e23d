"""What all tests share."""

import os

from hypothesis import settings

# The same examples on every run: a failure is a change's, not a day's. `make explore` looks for new ones.
# How long one takes says more of the machine than of the code.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
