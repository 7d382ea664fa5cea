"""Where pictures and weights come from: readers, decoding, downloads, the drawn world, and pretrained networks."""
