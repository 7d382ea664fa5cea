"""What is made of everything else in the end: notebooks run, the page of figures, and the rows of the README.

`tables` writes tables as Markdown, LaTeX and CSV, `headlines` sets the paper beside ours in ten rows, and `reproduce`
runs notebooks and writes figures/README.md.
"""
