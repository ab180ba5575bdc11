"""How a database comes to have the tables of today, one step after the other; run by Alembic."""
