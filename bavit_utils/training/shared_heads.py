"""What lets a YOLOS learn from few pictures: its heads are shared with the patch tokens, its detection tokens start as
patches. Both are parts of the training alone; the model stays transformers' YOLOS.
"""

import math

import torch
import torch.nn.functional as F
from accelerate.utils import reduce
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss
from transformers import YolosForObjectDetection

NEAR = 0.3  # of a box's sides, around its centre: patches there answer for it
LEAST_NEAR = 0.75  # of a patch's side, so that a small box has a patch, too
START_NOISE = 0.02  # standard deviation of what tells the detection tokens' contents apart


def assign_patches(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """The box each patch answers for, one box to many patches: int64 [rows, cols], -1 for none.

    `boxes [n, 4]` are cxcywh in 0 to 1. A patch answers for a box whose centre is near its own: within NEAR of the
    box's sides, or LEAST_NEAR of the patch's; of several boxes, for the smallest.
    """
    rows, cols = grid
    if not len(boxes):
        return torch.full(grid, -1, device=boxes.device)
    y = (torch.arange(rows, device=boxes.device) + 0.5) / rows
    x = (torch.arange(cols, device=boxes.device) + 0.5) / cols
    reach_x = (NEAR * boxes[:, 2]).clamp(min=LEAST_NEAR / cols)
    reach_y = (NEAR * boxes[:, 3]).clamp(min=LEAST_NEAR / rows)
    near_x = (x[None] - boxes[:, :1]).abs() <= reach_x[:, None]  # [n, cols]
    near_y = (y[None] - boxes[:, 1:2]).abs() <= reach_y[:, None]  # [n, rows]
    near = near_y[:, :, None] & near_x[:, None]
    areas = boxes[:, 2:].prod(dim=1)[:, None, None].expand_as(near)
    smallest, box = torch.where(near, areas, torch.inf).min(dim=0)
    return torch.where(smallest.isinf(), -1, box)


def patch_loss(
    detector: YolosForObjectDetection, hidden: Tensor, targets: list[dict[str, Tensor]], keep: Tensor
) -> Tensor:
    """The loss of the detector's own heads on the patch tokens, whose mean over processes is that of one batch.

    `hidden [B, 1 + N + D, C]` are the last layer's tokens, of which those of `keep`, boolean [B, rows, cols], were
    computed. Cross-entropy with the Hungarian loss's weight for no-object, L1 and GIoU with its weights; `targets` are
    as transformers wants them.
    """
    config = detector.config
    answers = torch.stack([assign_patches(target["boxes"], keep.shape[1:]) for target in targets]).flatten(1)
    starts = torch.tensor([0] + [len(target["boxes"]) for target in targets]).cumsum(0)[:-1, None]
    answers = torch.where(answers < 0, -1, answers + starts.to(answers.device))[keep.flatten(1)]
    labels = torch.cat([target["class_labels"] for target in targets])
    boxes = torch.cat([target["boxes"] for target in targets])
    tokens = hidden[:, 1 : 1 + keep[0].numel()][keep.flatten(1)].to(detector.bbox_predictor.layers[0].weight.dtype)
    positive = answers >= 0

    classes = answers.new_full(answers.shape, config.num_labels)  # no-object
    classes[positive] = labels[answers[positive]]
    weight = tokens.new_ones(config.num_labels + 1)
    weight[-1] = config.eos_coefficient
    loss = F.cross_entropy(detector.class_labels_classifier(tokens), classes, weight, reduction="sum")
    found = detector.bbox_predictor(tokens[positive]).sigmoid()
    wanted = boxes[answers[positive]]
    corners = (box_convert(part, "cxcywh", "xyxy") for part in (found, wanted))
    box_loss = config.bbox_loss_coefficient * (found - wanted).abs().sum()
    box_loss = box_loss + config.giou_loss_coefficient * generalized_box_iou_loss(*corners, reduction="sum")
    totals = reduce(torch.stack([weight[classes].sum(), positive.sum().float()]), "mean").clamp(min=1)
    return loss / totals[0] + box_loss / totals[1]


@torch.no_grad()
def start_as_patches(detector: YolosForObjectDetection, pixels: Tensor) -> None:
    """Let the detection tokens start as patches without content, in place.

    Their positions are the patches' position table, sampled at the centres of a regular grid; their contents the mean
    patch embedding of the pictures `pixels [B, 3, height, width]`, and a little noise.
    """
    embeddings, config = detector.vit.embeddings, detector.config
    count = config.num_detection_tokens
    grid = [side // config.patch_size for side in config.image_size]
    table = embeddings.position_embeddings[:, 1:-count].unflatten(1, grid).permute(0, 3, 1, 2)
    rows = round(math.sqrt(count))
    cols = math.ceil(count / rows)
    chosen = torch.linspace(0, rows * cols - 1, count).round().long()
    y, x = (2 * (chosen // cols) + 1) / rows - 1, (2 * (chosen % cols) + 1) / cols - 1
    sampled = F.grid_sample(table, torch.stack([x, y], dim=-1)[None, None], align_corners=False)  # [1, C, 1, D]
    embeddings.position_embeddings[:, -count:] = sampled[:, :, 0].transpose(1, 2)
    mean = embeddings.patch_embeddings(pixels).mean(dim=(0, 1))
    embeddings.detection_tokens.copy_(mean + START_NOISE * torch.randn_like(embeddings.detection_tokens))
