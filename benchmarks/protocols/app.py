"""The apps under test, each as `penstock run app.py:name`."""

import penstock as ps

codecs = ps.App("codecs")
codecs.model("late", objective=ps.Objective(latency_ms=50, availability=0.999))
codecs.model("image")

late = ps.App("late")
late.model("late", objective=ps.Objective(latency_ms=50, availability=0.999))

versioned = ps.App("versioned")
versioned.model("versioned", objective=ps.Objective(latency_ms=50, availability=0.999))
