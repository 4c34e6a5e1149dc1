"""Wire types: the HybridRoute object and the contract between control plane and data plane."""
