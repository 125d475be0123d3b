"""Run records to the tables of the paper."""
