"""The whole loop on one machine, driven through the doors that its users have."""
