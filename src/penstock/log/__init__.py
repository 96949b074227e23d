"""The log: the durable, ordered record of events, in topics of partitions."""
