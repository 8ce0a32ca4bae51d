"""How each type of controller is commanded."""
