"""Speed, memory and agreement, side by side with PyTorch. Each module runs alone (`python -m benchmarks.encode`);
`python -m benchmarks` runs those beside PyTorch and keeps their results.
"""
