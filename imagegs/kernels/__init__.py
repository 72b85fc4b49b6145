"""The operations everything stands on: compiled ones behind ``native``, and their definition in ``reference``."""
