"""The sub-commands, one module each; a command imports what it needs only when it runs."""
