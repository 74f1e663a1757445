"""The loss table: who holds which losses, and what processes tell each other of them."""
