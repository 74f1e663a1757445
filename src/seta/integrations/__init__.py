"""Training frameworks, one file each, which imports its framework; nothing imports these files."""
