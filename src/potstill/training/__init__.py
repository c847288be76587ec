"""One training for teachers and students: feeds, loop, checkpoints, networks."""
