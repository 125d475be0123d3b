"""``kanmlip-reproduce``: which runs make the paper's tables and our controls, in which order, at what cost; and making them."""
