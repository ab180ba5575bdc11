"""What a round costs: windows over its phases, records of them, and reports for people."""
