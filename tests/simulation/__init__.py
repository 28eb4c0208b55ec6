"""The real runtime on a faulty storage, in virtual time."""
