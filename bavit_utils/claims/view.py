"""The claims as a person reads them: one table that can be filtered, and how many there are of each status."""

from html import escape

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..figures import GREEN, GREY, SKY, TEXT_WIDTH, VERMILION
from ..results import NOT_RUN
from . import GROUPS, filter_claims
from .base import NOT_AS_STATED, PARTLY, REPRODUCED, STATUSES

_COLOURS = {REPRODUCED: GREEN, PARTLY: SKY, NOT_AS_STATED: VERMILION, NOT_RUN: GREY}
_WIDTHS = {"no.": 3, "where": 9, "the paper says": 25, "check": 20, "what came out": 33, "status": 10}  # per cent
_GROUP_OF = {claim.number: name for name, claims in GROUPS.items() for claim in claims}
_TABLE = "width: 100%; table-layout: fixed; border-collapse: collapse; font-size: 12px; line-height: 1.3"
_CELL = "text-align: left; vertical-align: top; white-space: normal; padding: 4px 6px; border-bottom: 1px solid #ddd"


def claims_html(table: pd.DataFrame) -> str:
    """Rows of `claims.claims_table` as one HTML table with wrapped text, under the names of their groups."""
    head = "".join(f'<th style="{_CELL}; width: {_WIDTHS[column]}%">{column}</th>' for column in table)
    lines, group = [], None
    for row in table.to_dict("records"):
        if _GROUP_OF[row["no."]] != group:
            group = _GROUP_OF[row["no."]]
            lines.append(
                f'<tr><th colspan="{len(table.columns)}" style="{_CELL}; padding-top: 12px">{escape(group)}</th></tr>'
            )
        cells = "".join(
            f'<td style="{_CELL}{_mark(column, value)}">{escape(str(value))}</td>' for column, value in row.items()
        )
        lines.append(f"<tr>{cells}</tr>")
    body = "\n".join(lines) or f'<tr><td colspan="{len(table.columns)}" style="{_CELL}">no claim of this kind</td></tr>'
    return f'<table style="{_TABLE}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'


def _mark(column: str, value: str) -> str:
    return f"; border-left: 6px solid {_COLOURS[value]}" if column == "status" else ""


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each status a group has: a row a group, a column a status, and `all` of both."""
    groups = table["no."].map(_GROUP_OF)
    found = pd.crosstab(groups, table["status"]).reindex(index=groups.unique(), columns=list(STATUSES), fill_value=0)
    found.loc["all"] = found.sum()
    return found.assign(all=found.sum(axis=1)).rename_axis(index=None, columns=None)


def counts_figure(table: pd.DataFrame) -> Figure:
    """`counts` as bars, a group a line."""
    found = counts(table).drop(index="all", columns="all")
    y, left = np.arange(len(found))[::-1], np.zeros(len(found))
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 0.28 * len(found) + 0.9))
    for status in STATUSES:
        bars = ax.barh(y, found[status], left=left, color=_COLOURS[status], label=f"{status}: {found[status].sum()}")
        ax.bar_label(bars, [str(n) if n else "" for n in found[status]], label_type="center", fontsize=8)
        left += found[status].to_numpy()
    ax.set(yticks=y, yticklabels=found.index, xlabel="claims")
    ax.grid(visible=False)
    fig.legend(loc="outside upper center", ncols=len(STATUSES))
    return fig


class ClaimsBrowser(widgets.VBox):
    """Shows itself in a notebook. `status` (a Dropdown) and `text` (a Text) choose rows of `claims.claims_table`.

    `label` (HTML) says how many they are, `shown` (a DataFrame) holds them, and `rows` (HTML) shows them.
    """

    def __init__(self, table: pd.DataFrame):
        self._table = table
        self.status = widgets.Dropdown(
            options=[("all", None), *((name, name) for name in STATUSES)], description="status"
        )
        self.text = widgets.Text(placeholder="a word: memory, Eq. 4, COCO", description="holds")
        self.label, self.rows = widgets.HTML(), widgets.HTML()
        super().__init__([widgets.HBox([self.status, self.text]), self.label, self.rows])
        for control in (self.status, self.text):
            control.observe(self._update, "value")
        self._update()

    def _update(self, _=None) -> None:
        self.shown = filter_claims(self._table, self.status.value, self.text.value)
        self.label.value = f"{len(self.shown)} of {len(self._table)} claims"
        self.rows.value = claims_html(self.shown)
