"""What is measured of Penstock, each run as a process of its own."""
