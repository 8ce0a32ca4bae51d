"""The ALOHA robot, simulated or driven through Interbotix's xs_sdk, and its sample bag."""
