"""The app under test with a ladder of one rung: who would be refused is told a constant."""

import penstock as ps

app = ps.App("surge")
app.model(
    "late",
    objective=ps.Objective(latency_ms=100, availability=0.999),
    fallback=[ps.constant(probabilities=[0.5, 0.5])],
)
