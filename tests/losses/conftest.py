"""Settings of the property tests here."""

from hypothesis import settings

# The first call of a test pays for imports and warm-up; a deadline would measure the machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
