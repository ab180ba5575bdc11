"""The cloud's side: broker, gateway, pool, matching, registry, tasks and global training."""
