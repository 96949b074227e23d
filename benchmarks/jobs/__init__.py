"""Jobs: how fast they are acknowledged durably, and how fast they are through, against Celery on Redis."""
