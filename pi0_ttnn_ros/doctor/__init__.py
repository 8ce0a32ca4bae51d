"""What `pi0-ttnn doctor` checks of software, computer and card. Checks read files; they open no device."""
