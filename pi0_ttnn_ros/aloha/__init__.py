"""The ALOHA robot, simulated or behind Interbotix's driver, and its sample bag."""
