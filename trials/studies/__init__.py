"""Studies: one question, asked of several variants on several seeds, from a YAML file to tables and a picture."""
