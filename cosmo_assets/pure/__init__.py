"""What is true on paper: no Dagster, no clock, no unseeded chance."""
