"""The student: distilling it, loading it, asking it, saying it in other formats."""
