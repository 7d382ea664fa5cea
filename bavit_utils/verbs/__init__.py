"""What the verbs of `bavit` do: each loads, chooses, runs, stores. How they are called is in `cli`."""
