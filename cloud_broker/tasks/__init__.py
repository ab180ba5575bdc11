"""Who is to do what: tasks, cohorts, staged rollouts, experiments."""
