"""The app under test with a prediction cache."""

import penstock as ps

app = ps.App("surge")
app.model("late", objective=ps.Objective(latency_ms=100, availability=0.999), cache=ps.Cache(ttl="10m"))
