import penstock as ps

app = ps.App("flights")
late = app.model("late", objective=ps.Objective(latency_ms=50))
