"""The scenarios of the contract, one module per subject."""
