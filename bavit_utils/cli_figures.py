"""The verb that draws: every figure and table, without a notebook."""

import argparse

import matplotlib

from .config import get_profile
from .gallery import draw_all
from .gallery.readme import write_readme


def draw(args: argparse.Namespace) -> None:
    """Draw every figure and table from what is stored, and list them in figures/README.md."""
    matplotlib.use("Agg")
    profile = get_profile(args.profile)
    for sentence in draw_all(profile):
        print(sentence)
    if profile.name == "sample":
        write_readme()
    print(f"figures and tables are in figures/{profile.name}/")
