"""What people see: progress, tables, pictures, and the files of a run directory."""
