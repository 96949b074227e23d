"""The app under test: one model whose answers are promised within 100 ms, everything else as it comes."""

import penstock as ps

app = ps.App("surge")
app.model("late", objective=ps.Objective(latency_ms=100, availability=0.999))
