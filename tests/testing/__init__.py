"""What `jobrt.testing` offers."""
