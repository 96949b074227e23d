"""The app under test with the forest, which runs one row at a time: each then costs what the forest costs.

Nearly all of that is paid for each call, not for each row: in batches it would do tens of times as much, and
ten times that is more than one machine can send.
"""

import penstock as ps

app = ps.App("surge")
app.model("late", objective=ps.Objective(latency_ms=100, availability=0.999), batch_rows_max=1)
