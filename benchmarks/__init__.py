"""What this costs beside named alternatives; see README.md in this folder."""
