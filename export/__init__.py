"""model.keras -> artefacts that run without this project, each verified in its own runtime."""
