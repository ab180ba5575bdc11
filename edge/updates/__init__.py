"""New releases of the software: trusted, installed beside the old one, tried, and kept or left."""
