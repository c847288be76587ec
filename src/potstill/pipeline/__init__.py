"""The stages in order, as the commands and the Python API run them; reads the run file."""
