"""Rows for models as web and app developers send them: MLflow's scoring form, NDJSON and Arrow batches."""
