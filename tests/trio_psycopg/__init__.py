"""Hold the Trio-driven psycopg to its word, against a real server and a proxy that misbehaves."""
