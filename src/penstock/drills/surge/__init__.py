"""`penstock drill surge`: open-loop load, and a report of what came of it."""
