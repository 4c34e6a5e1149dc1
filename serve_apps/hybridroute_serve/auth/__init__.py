"""Who may ask: clients and their keys from a file, looked up in constant time, and what each may ask per minute."""
