"""Several devices, machines and data services."""
