"""Who else may choose the tokens (Fig. 1): scores, trained heads, merging, and their comparison at equal budgets."""
