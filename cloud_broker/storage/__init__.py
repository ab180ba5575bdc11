"""Where the cloud keeps what it must not lose: one database by URL, its tables and migrations."""
