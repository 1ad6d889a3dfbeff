"""One training in many processes, under torchrun or on Ray. Knows a `Task`, not supernets."""
