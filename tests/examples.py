"""How many examples hypothesis tries, where a test asks for more or fewer than others do."""

from hypothesis import settings


def examples(count, **options):
    """Returns settings of `count` examples, or of as large a part as the profile tries of 100."""
    part = settings().max_examples / 100
    return settings(max_examples=max(1, round(count * part)), **options)
