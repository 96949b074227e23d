"""Arrow IPC streams as they come from anybody: their messages, schemas and metadata."""
