"""The threshold explorer: drag the threshold, see what is pruned and what the detector still detects (section 4.2).

`compute` has what is shown, `pictures` what can be looked at, `drawing` and `parts` how it looks, `widgets` the whole.
"""
