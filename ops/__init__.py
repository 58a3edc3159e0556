"""Operations: policies, benchmarks, the demo, decisions."""
