"""What tests do otherwise under a sanitizer."""

import os


def without_leaks():
    """An environment in which AddressSanitizer looks for no leaks.

    It would count as lost what threads held that a fork, or the end of Python, has ended.
    """
    options = os.environ.get("ASAN_OPTIONS")
    return {**os.environ, "ASAN_OPTIONS": ":".join([*filter(None, [options]), "detect_leaks=0"])}
