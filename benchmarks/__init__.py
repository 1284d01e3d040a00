"""Speed, memory and agreement, side by side with PyTorch. Each module runs alone: `python -m benchmarks.encode`."""
