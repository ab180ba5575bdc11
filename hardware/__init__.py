"""The machine underneath: which board it is, what on it can measure power, and the meters beside it."""
