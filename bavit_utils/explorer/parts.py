"""The threshold explorer's controls and views, and where each stands; what they do is in `widgets`."""

from collections.abc import Iterable

import ipywidgets as widgets
import numpy as np

from . import drawing

_ROW = {"flex_flow": "row wrap", "grid_gap": "4px 16px"}
_COLUMNS = {"grid_template_columns": "repeat(auto-fit, minmax(200px, 1fr))", "grid_gap": "12px"}


def _thresholds() -> list[tuple[str, float]]:
    """Texts and values from 0 to 1, evenly spaced in their logit: most of what a threshold does it does near 1."""
    spaced = 1 / (1 + np.exp(-np.linspace(-5, 10, 151)))
    texts = [f"{t:.{3 + (t > 0.99) + (t > 0.999)}f}" for t in spaced]
    return [("0", 0.0), *((text, float(text)) for text in dict.fromkeys(texts)), ("1", 1.0)]


class ExplorerParts(widgets.VBox):
    """Controls on top, then what has to be said, the numbers, and four views side by side, or fewer where it is narrow.

    `sources` and `bavits` are the names to choose from.
    """

    def __init__(self, sources: Iterable[str], bavits: Iterable[str]):
        self.message, self.numbers = widgets.HTML(), widgets.HTML()
        super().__init__(
            [widgets.HTML(drawing.STYLE), self._controls(sources, bavits), self.message, self.numbers, self._views()]
        )
        self.add_class("bavit-explorer")

    def show_boxes(self, shown: bool) -> None:
        """Show or hide the detector's two views."""
        for panel in self._boxes:
            panel.layout.display = None if shown else "none"

    def _controls(self, sources: Iterable[str], bavits: Iterable[str]) -> widgets.VBox:
        self.source = _control(widgets.Dropdown, "Pictures", options=tuple(sources))
        self.picture = _control(widgets.Dropdown, "Picture", width="220px")
        self.upload = widgets.FileUpload(
            accept="image/*",
            description="Open your own image, up to 10 MB",
            tooltip="A JPEG or PNG file; notebook servers cut off at 10 MB, `make lab` at 100",
            layout={"width": "auto"},
        )
        self.slider = _control(
            widgets.SelectionSlider,
            "Threshold (higher keeps more)",
            "The confidence in background above which a patch is pruned",
            options=_thresholds(),
            value=0.9,  # near what loses some 2 % of the foreground (calibration-<dataset>.json)
        )
        self.bavit = _control(widgets.Dropdown, "Model", options=tuple(bavits))
        self.fill = _control(
            widgets.IntSlider,
            "Post-processing steps",
            "In each, background with more than two foreground neighbours is kept too (Fig. 5)",
            "300px",
            min=0,
            max=5,
        )
        self.resize = _control(
            widgets.Dropdown,
            "Resize rule",
            "How BAViT's grid becomes the detector's (section 3.5)",
            options=("nearest", "bilinear", "any"),
        )
        pictures = widgets.Box([self.source, self.picture, self.upload], layout=_ROW)
        ways = widgets.Box([self.bavit, self.fill, self.resize], layout=_ROW)
        return widgets.VBox([pictures, self.slider, ways])

    def _views(self) -> widgets.GridBox:
        self.map_view, self.keep_view, self.pruned_view, self.dense_view = (_view() for _ in range(4))
        self.bar, self.keep_legend = widgets.HTML(), widgets.HTML()
        alone, lost = (widgets.HTML(drawing.boxes_legend(text)) for text in ("only here", "lost"))
        panels = [
            _panel("1. How likely is foreground?", self.map_view, self.bar),
            _panel("2. Kept at this threshold", self.keep_view, self.keep_legend),
            _panel("3. Detections, pruned", self.pruned_view, alone),
            _panel("4. Detections, unpruned", self.dense_view, lost),
        ]
        self._boxes = panels[2:]
        return widgets.GridBox(panels, layout=_COLUMNS)


def _control(kind: type, description: str, tooltip: str = "", width: str = "auto", **values) -> widgets.ValueWidget:
    style = {"description_width": "initial"}  # as wide as its text
    return kind(description=description, tooltip=tooltip, style=style, layout={"width": width}, **values)


def _view() -> widgets.Image:
    view = widgets.Image(format="jpeg")
    view.add_class("bavit-view")
    return view


def _panel(title: str, view: widgets.Image, below: widgets.HTML) -> widgets.VBox:
    return widgets.VBox([widgets.HTML(drawing.caption(title)), view, below])
