"""How BAViT and the detector learn: the loop and its state, what it reads, and a file for each kind of training."""
