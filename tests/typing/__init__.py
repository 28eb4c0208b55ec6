"""What users' type checkers say of programs that use jobrt."""
