"""What a KAN is: its structure, its parameters and its forward pass, with a record of one pass on demand."""
