"""Who may connect: origin, authentication and permissions, parameters of `connect()`."""
