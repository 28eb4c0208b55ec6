"""What jobs look like, and how their payloads are stored."""
