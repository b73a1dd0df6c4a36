"""Recipe -> a model that is ready for fit."""
