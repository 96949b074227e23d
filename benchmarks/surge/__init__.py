"""What a server answers in time when many times more is asked of it than it can do: Penstock and its peers."""
