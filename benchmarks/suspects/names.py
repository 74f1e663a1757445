"""The names of the scores, in the order of the tables."""

OURS = ("suspicion", "suspicion, by class")
PLAIN = ("last loss", "mean loss")
WAYS = ("self-confidence", "normalized margin", "confident learning")
"""What cleanlab makes of probabilities."""

AVERAGED, LAST_PASS = (tuple(f"{way}, {of}" for way in WAYS) for of in ("averaged", "last pass"))
NAMES = (*PLAIN, *OURS, *AVERAGED, *LAST_PASS)
EQUAL = AVERAGED[0]
"""What has the same information as ours: the label's probability at each visit."""
