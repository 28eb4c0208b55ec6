"""Run the real runtime over a storage that misbehaves on purpose, in virtual time."""
