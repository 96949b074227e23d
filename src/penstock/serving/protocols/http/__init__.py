"""HTTP/1.1: connections, messages, and the application that answers them."""
