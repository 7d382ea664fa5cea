"""The threshold explorer itself: what happens when a control is moved."""

import asyncio
from functools import wraps
from threading import RLock

from torch import Tensor

from ..config import Profile
from ..data.pictures import DataError, decode_upload
from ..pruning import keep_mask
from . import drawing
from .compute import Detector, Found, Pruner, choices, matched
from .parts import ExplorerParts
from .pictures import Picture, picture_sources

_REST_SECONDS = 0.25  # without a move, after which the detector runs
_OWN = "your own images"


def _one_at_a_time(method):
    """Moves come from the notebook's cells and, in another thread, from the browser."""

    @wraps(method)
    def locked(self, *args):
        with self._lock:
            return method(self, *args)

    return locked


class ThresholdExplorer(ExplorerParts):
    """An image to choose and a threshold to drag; it finds images and checkpoints, and says what is not at hand.

    It shows itself in a notebook. `slider` is the threshold; `source` and `picture` choose what is looked at, `upload`
    adds to it; `bavit`, `fill` and `resize` choose how the keep mask comes about.

    The map and the kept patches follow every move, the boxes a hand that rests: a quarter of a second after the last
    move, or, where no event loop runs, at once. `settle()` doesn't wait. `summary()` is what the numbers say, without
    times; `message` holds what is not at hand, or was wrong with an upload.
    """

    def __init__(self, profile: Profile):
        self.profile = profile
        self._lock, self._held, self._moves = RLock(), False, 0
        self._sources, self._missing = picture_sources(profile)
        self._choices, self._detectors, self._pruners = choices(profile), {}, {}
        self._chosen = self._pruner = None
        super().__init__(self._sources, self._choices)
        if not self._choices:
            self._missing.append(f"No BAViT is here: `bavit train-bavit --profile {profile.name} --store` trains one.")
            self._say()
            return
        reactions = {self.source: self._choose_source, self.picture: self._choose_picture,
                     self.upload: self._take_upload, self.bavit: self._choose_bavit}  # fmt: skip
        for control in (*reactions, self.slider, self.fill, self.resize):
            moved = reactions.get(control, self._move)
            control.observe(lambda _, moved=moved: self._held or moved(), "value")
        self._choose_source()
        self.settle()

    def __repr__(self) -> str:
        return f"ThresholdExplorer(profile {self.profile.name})"

    def keep(self) -> Tensor:
        """The keep mask of the chosen image, boolean [1, *detector grid]."""
        return self._pruner.keep(self._chosen, self.slider.value, self.fill.value, self.resize.value)

    def detections(self, dense: bool = False) -> Found | None:
        """What is detected on the kept patches, or on all with `dense`; None without a detector."""
        if self._pruner.detector is None:
            return None
        return self._pruner.detector.found(self._chosen) if dense else self._pruner.found(self._chosen, self.keep())

    @_one_at_a_time
    def summary(self) -> str:
        """What the numbers say, as one line."""
        if self._pruner is None:
            return "no image here" if self._choices else "no BAViT here"
        numbers, found = self._pruner.numbers(self._chosen, self.keep()), self.detections()
        parts = [f"sparsity {numbers.sparsity:.0%}", f"{numbers.kept} of {numbers.patches} patches kept"]
        if numbers.fg_recall is not None and numbers.fg_recall == numbers.fg_recall:
            parts.append(f"{numbers.fg_recall:.0%} of the foreground kept")
        parts.append(f"{numbers.gmacs / numbers.dense_gmacs:.0%} of the multiply-adds")
        if found:
            parts.append(f"{len(found.names)} detected, {len(self.detections(dense=True).names)} without pruning")
        return ", ".join(parts)

    @_one_at_a_time
    def settle(self) -> None:
        """Run the detector now, where there is one and it hasn't seen this keep mask, and draw what it detects."""
        if self._pruner is None or self._pruner.detector is None:
            return
        keep, found, dense = self.keep(), self.detections(), self.detections(dense=True)
        self.pruned_view.value = drawing.boxes_view(self._canvas, keep[0].numpy(), found, matched(found, dense))
        self.dense_view.value = drawing.boxes_view(self._canvas, None, dense, matched(dense, found))
        for view in (self.pruned_view, self.dense_view):
            view.remove_class("bavit-stale")
        numbers, measured = self._pruner.numbers(self._chosen, keep), self._pruner.measured_ms(self._chosen, keep)
        self.numbers.value = drawing.tiles(numbers, measured, len(found.names), len(dense.names))

    @_one_at_a_time
    def _choose_source(self) -> None:
        self._held = True
        self.picture.options, self.picture.index = tuple(self._sources[self.source.value]), 0
        self._held = False
        self._choose_picture(True)

    @_one_at_a_time
    def _choose_picture(self, another_source: bool = False) -> None:
        try:
            self._chosen = self._sources[self.source.value][self.picture.value]()
        except DataError as error:
            self._say(str(error))
            return
        self._canvas = drawing.canvas(self._chosen.image)
        if another_source:
            self._held = True
            self.bavit.value = self._fitting()
            self._held = False
        self._choose_bavit()

    def _fits(self, choice: str) -> bool:
        """Did it learn from images like the chosen one: drawn scenes, or photographs?"""
        return self._chosen.drawn == (self._choices[choice][0].pruner_data == "sample")

    def _fitting(self) -> str:
        """The chosen BAViT if it fits, else the first that does, before a detector if there is such a one."""
        fitting = [choice for choice in (self.bavit.value, *self._choices) if self._fits(choice)]
        boxed = [choice for choice in fitting if not Detector.missing(self._choices[choice][0])]
        return [*boxed, *fitting, self.bavit.value][0]

    @_one_at_a_time
    def _choose_bavit(self) -> None:
        if self._chosen is None:
            return
        profile, bavit = choice = self._choices[self.bavit.value]
        if choice not in self._pruners:
            if profile not in self._detectors:
                self._detectors[profile] = None if Detector.missing(profile) else Detector(profile)
            self._pruners[choice] = Pruner(profile, bavit, self._detectors[profile])
        self._pruner = self._pruners[choice]
        self.keep_legend.value = drawing.keep_legend(self._pruner.truth(self._chosen) is not None)
        self.show_boxes(self._pruner.detector is not None)
        self._say()
        self._move()

    @_one_at_a_time
    def _take_upload(self) -> None:
        if not self.upload.value:
            return
        file = self.upload.value[0]
        self.upload.value = ()  # so that the same file may be chosen again
        own = self._sources.get(_OWN, {})
        name = f"{len(own) + 1}: {file['name']}"
        try:
            picture = Picture((_OWN, name), decode_upload(bytes(file["content"]), file["name"]))
        except DataError as error:
            self._say(str(error))
            return
        self._sources[_OWN] = own | {name: lambda: picture}
        another_source, self._held = self.source.value != _OWN, True
        self.source.options, self.source.value = tuple(self._sources), _OWN
        self.picture.options, self.picture.value = tuple(self._sources[_OWN]), name
        self._held = False
        self._choose_picture(another_source)

    def _say(self, wrong: str = "") -> None:
        """What is not at hand, what doesn't fit, and what was wrong just now."""
        lines = [*self._missing, wrong]
        if self._pruner:
            lines.append(Detector.missing(self._pruner.profile))
            if not self._fits(self.bavit.value):
                kinds = ("photographs", "drawn scene") if self._chosen.drawn else ("drawn scenes", "photograph")
                lines.append("This model learnt from {}, and this is a {}: another may know it better.".format(*kinds))
        self.message.value = drawing.sentences([line for line in lines if line])

    @_one_at_a_time
    def _move(self) -> None:
        """Draw what is known at once, and see to it that the detector runs when the hand rests."""
        if self._pruner is None:
            return
        self._moves += 1
        picture, keep, pruner = self._chosen, self.keep(), self._pruner
        fg_prob, threshold, detector = pruner.map(picture), self.slider.value, pruner.detector
        above = keep_mask(fg_prob, threshold)[0].numpy()
        self.map_view.value = drawing.map_view(self._canvas, fg_prob[0].numpy(), above)
        self.keep_view.value = drawing.keep_view(self._canvas, keep[0].numpy(), pruner.truth(picture))
        self.bar.value = drawing.bar(threshold)
        if detector and detector.knows(picture, keep, pruner.after_layers) and detector.knows(picture):
            self.settle()
            return
        self.numbers.value = drawing.tiles(pruner.numbers(picture, keep))
        if detector is None:
            return
        self.pruned_view.add_class("bavit-stale")
        if not detector.knows(picture):
            self.dense_view.add_class("bavit-stale")
        try:
            asyncio.get_running_loop().call_later(_REST_SECONDS, self._rest, self._moves)
        except RuntimeError:  # no loop runs: a test, or a script
            self.settle()

    def _rest(self, move: int) -> None:
        if move == self._moves:
            self.settle()
