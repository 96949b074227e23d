"""What the server under test serves."""

import penstock as ps

app = ps.App("jobs", objective=ps.Objective(latency_ms=1000))
app.model("late")
