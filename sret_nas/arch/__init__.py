"""One network as data: its configuration, id, cost, budget, and the file of a search's result."""
