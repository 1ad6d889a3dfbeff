"""The training of supernets: one set of weights for all networks of a space, from which trials inherit."""
