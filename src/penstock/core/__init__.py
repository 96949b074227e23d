"""What everything stands on: tensors, signatures, time, randomness, errors and settings."""
