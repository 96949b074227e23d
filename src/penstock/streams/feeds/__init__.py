"""What brings rows from elsewhere into a stream's topic: files, tables, functions."""
