"""The data plane: router, llm-proxy, slm and keeper."""
