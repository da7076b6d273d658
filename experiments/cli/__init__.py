"""Options that experiments share, their command line, and learning to classify pictures."""
