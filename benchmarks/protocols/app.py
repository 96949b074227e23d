"""The apps under test, each as `penstock run app.py:name`."""

import penstock as ps

codecs = ps.App("codecs")
codecs.model("late", objective=ps.Objective(latency_ms=50, availability=0.999))
# Bodies that take tens of milliseconds to read come between: with a narrow objective, some are rightly refused.
codecs.model("image", objective=ps.Objective(latency_ms=2000, availability=0.999))

patient = ps.App("patient")
patient.model("late", objective=ps.Objective(latency_ms=2000, availability=0.999))
patient.model("image", objective=ps.Objective(latency_ms=2000, availability=0.999))

late = ps.App("late")
late.model("late", objective=ps.Objective(latency_ms=50, availability=0.999))

versioned = ps.App("versioned")
versioned.model("versioned", objective=ps.Objective(latency_ms=50, availability=0.999))
