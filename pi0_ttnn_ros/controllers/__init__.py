"""Controllers: how each type of controller is commanded."""
