"""The app under test: one model with a promise, nothing else."""

import penstock as ps

app = ps.App("bench")
late = app.model("late", objective=ps.Objective(latency_ms=50, availability=0.999))
