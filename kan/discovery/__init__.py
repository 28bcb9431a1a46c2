"""From a network to its formula."""
