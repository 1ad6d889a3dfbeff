"""The networks inside a budget: counted exactly, drawn uniformly, stratified or balanced."""
