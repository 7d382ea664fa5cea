"""What fills `data/results` besides trainings, sweep and comparison; each file measures one thing."""
