"""The paper's own numbers, kept in this one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# The paper's Table 2, first column; 0 is the dense detector behind BAViT.
PAPER_SPARSITIES = (0.46, 0.43, 0.40, 0.39, 0.37, 0.35, 0.32, 0.29, 0.05, 0.02, 0.0)


def _table(columns: str, *rows: tuple) -> tuple[Mapping, ...]:
    return tuple(MappingProxyType(dict(zip(columns.split(), row, strict=True))) for row in rows)


@dataclass(frozen=True)
class Paper:
    """The paper's numbers as printed, slips included; fractions are 0 to 1. Tables are tuples of read-only rows."""

    # Table 1: token accuracy
    table1: tuple[Mapping, ...] = _table(
        "model depth dataset accuracy",
        ("bavit-small", 2, "voc", 0.7593),
        ("bavit-large", 10, "voc", 0.8879),
        ("bavit-small", 2, "coco", 0.7088),
        ("bavit-large", 10, "coco", 0.8057),
    )
    # Table 2: tokens summed over layers, with BAViT-small in front of YOLOS-tiny on COCO
    table2: tuple[Mapping, ...] = _table(
        "detector sparsity AP tokens_bavit tokens_yolos tokens_pruned tokens_total reduction",
        ("yolos", 0.46, 0.200, 1152, 12288, 6635, 7787, 0.3663),
        ("yolos", 0.43, 0.215, 1152, 12288, 7004, 8156, 0.3363),
        ("yolos", 0.40, 0.225, 1152, 12288, 7372, 8524, 0.3063),
        ("yolos", 0.39, 0.227, 1152, 12288, 7495, 8647, 0.2963),
        ("yolos", 0.37, 0.238, 1152, 12288, 7741, 8893, 0.2763),
        ("yolos", 0.35, 0.244, 1152, 12288, 7987, 9139, 0.2563),
        ("yolos-f", 0.35, 0.266, 1152, 12288, 7987, 9139, 0.2563),
        ("yolos", 0.32, 0.250, 1152, 12288, 8355, 9507, 0.2260),
        ("yolos", 0.29, 0.259, 1152, 12288, 8724, 9876, 0.1960),
        ("yolos", 0.05, 0.277, 1152, 12288, 11673, 12825, -0.0437),
        ("yolos", 0.02, 0.286, 1152, 12288, 12042, 13194, -0.0738),
        ("yolos", 0.00, 0.288, 1152, 12288, 12288, 13440, -0.0940),
    )
    base_AP: float = 0.288  # Table 2, sparsity 0
    # said elsewhere: by YOLOS's authors of YOLOS-tiny, and by VOC of its pictures with segmentation
    published_base_AP: float = 0.287
    voc2012_masks: int = 2913
    # sections 3.1 to 3.5 and the appendix
    patch_size: int = 16
    embed_dim: int = 192
    tau_box: float = 0.5
    tau_mask: float = 0.10
    epochs: int = 100
    bavit_img_size: int = 384
    detector_img_size: int = 512
    bavit_tokens: int = 576
    detector_tokens: int = 1024
    fill_more_than: int = 2
    fill_steps: int = 3
    # section 4.1
    yolos_parameters: float = 6.5e6
    yolos_flops: float = 18.8e9
    bavit_parameters: float = 1.49e6  # added by BAViT-small
    bavit_flops: float = 1.961e9  # added by BAViT-small
    focus_detr_parameters: float = 48e6
    focus_detr_ratio: float = 8.0  # "almost 8x times bigger and slower"
    coco_background_share: float = 0.40
    sparsity_of_many_images: float = 0.70  # "even more than 70%"
    # section 4.2: (sparsity, reduction, drop of AP), and what fine-tuning gives back
    text_row: tuple[float, float, float] = (0.34, 0.24, 0.026)
    finetune_gain: float = 0.02
    finetune_epochs: int = 30
    n_val_images: int = 5000
    # abstract and conclusion
    abstract_accuracy: tuple[float, ...] = (0.75, 0.88, 0.71, 0.80)  # Table 1's rows
    throughput_gain: tuple[float, float] = (0.30, 0.40)
    conclusion_reduction: float = 0.25
    drop: float = 0.03  # without fine-tuning
    drop_finetuned: float = 0.02  # "less than 2%"

    @property
    def drop_share(self) -> float:
        """The abstract's "mAP drop of 3%" as a share of the dense detector's AP."""
        return self.drop / self.base_AP


PAPER = Paper()
# The sparsity of Table 2's fine-tuned row, where detectors are compared.
TRAINED_AT = next(row["sparsity"] for row in PAPER.table2 if row["detector"] == "yolos-f")
