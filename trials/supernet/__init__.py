"""Training of supernets, whose shared weights trials inherit, and scoring of their subnets."""
