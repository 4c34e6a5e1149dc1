"""OpenAI shapes: what is read, edited and answered."""
