"""What a notebook shows but does not teach: its figures, interactive views and exercise checks."""
