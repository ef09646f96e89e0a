"""Read the saved states of Hyper-V's machines."""
