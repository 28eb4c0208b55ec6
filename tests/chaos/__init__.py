"""Random faults under real worker processes, and checks that no job was affected."""
