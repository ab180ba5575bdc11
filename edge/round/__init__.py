"""A round from its task to its report, in phases that survive a kill."""
